"""`bt-daemon --version` says which program, engine and model this is, and imports none of them."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from daemon.cli import main
from daemon.version import engine_text, model_text, version_text
from tests.conftest import REPOSITORY
from trainer.model.identity import default_weights, weights_sha256


def test_it_names_program_engine_and_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0

    program, engine, model = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"bt-daemon \d+\.\d+\S*( \(checkout\))? \(Python 3\.\S+, SQLite 3\.\S+\)", program)
    assert re.fullmatch(r"engine: (openvino|torch) \d\S+", engine)
    assert model.startswith("model: ")


def test_the_model_is_named_with_the_beginning_of_its_hash() -> None:
    if not default_weights().is_file():
        pytest.skip("no model is shipped yet")

    assert model_text().endswith(f"({weights_sha256(default_weights())[:8]})")


def test_a_missing_engine_or_model_is_told_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.version._installed", lambda package: None)
    monkeypatch.setattr("trainer.model.identity.default_weights", lambda: REPOSITORY / "missing.safetensors")

    assert engine_text() == "none"
    assert model_text() == "none is shipped; name one with --weights"
    assert version_text().startswith("bt-daemon ")


def test_nothing_slow_is_imported() -> None:
    code = (
        "import sys; from daemon.cli import main; main(['--version']);"
        "print(sorted({'torch', 'openvino', 'sqlalchemy', 'rich'} & set(sys.modules)), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code]

    ran = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=True)

    assert ran.stderr == "[]\n"
