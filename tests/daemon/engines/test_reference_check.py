"""Engines are checked against the answers that training left in the weights file."""

from __future__ import annotations

import contextlib
import logging
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import daemon.engines.reference_check
from config.errors import WeightsError
from daemon.engines.base import EngineOutput
from daemon.engines.build_openvino import make_engine
from daemon.engines.cache import prepare_engine
from daemon.engines.openvino_engine import open_graph
from daemon.engines.reference_check import check_reference
from daemon.workers.pool import WorkerError
from tests.conftest import REPOSITORY
from tests.support.daemons import bt_daemon
from tests.support.models import SMALL, changed_model, earlier_model, untrained_model
from tests.support.workers import drawn_images, judge, make_workers
from trainer.images.arrays import Grey
from trainer.images.phantom import phantom
from trainer.model.identity import default_weights
from trainer.model.weights import Weights, read_weights


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_model(tmp_path_factory.mktemp("small") / "small.safetensors", SMALL)


class Off:
    """An engine that computes what another does, off by a little."""

    def __init__(self, weights: Weights, **off: float) -> None:
        self._engine = open_graph(weights)
        self._off = off

    def run(self, batch: Grey) -> EngineOutput:
        said = self._engine.run(batch)
        return replace(said, **{name: getattr(said, name) + np.float32(by) for name, by in self._off.items()})


@pytest.mark.slow
def test_the_shipped_model_computes_here_what_its_training_computed() -> None:
    weights = read_weights(default_weights())

    told = check_reference(weights, open_graph(weights))

    assert told == "computes what its training computed of 64 probe pictures"


@pytest.mark.parametrize(
    ("off", "said"),
    [
        ({"features": 0.01}, "features differ by 0.01"),
        ({"logits": 0.01, "maps": 0.01}, "logits differ by 0.01"),
        ({"maps": 0.01}, "maps do not add up"),
        ({"logits": float("nan")}, "not finite"),
        ({"maps": float("inf")}, "not finite"),
    ],
)
def test_an_engine_that_computes_something_else_is_refused(
    small: Path, off: dict[str, float], said: str
) -> None:
    weights = read_weights(small)

    with pytest.raises(WeightsError, match=said):
        check_reference(weights, Off(weights, **off))


@pytest.mark.slow
def test_an_engine_with_another_lesion_map_is_refused(tmp_path: Path) -> None:
    """The highest places of a lesion map count, not its mean: what maps are is told by the reference."""
    spec = replace(SMALL, architecture="lite0_six_map", architecture_options={})
    weights = read_weights(untrained_model(tmp_path / "located.safetensors", spec))

    assert "64 probe pictures" in check_reference(weights, open_graph(weights))
    with pytest.raises(WeightsError, match=r"maps differ by 0\.01"):
        check_reference(weights, Off(weights, maps=0.01))


@pytest.mark.slow
@pytest.mark.parametrize("tensor", ["reference__logits", "reference__features", "body__2__0__weight"])
def test_a_file_of_which_a_number_was_changed_is_refused_in_one_line(
    small: Path, tmp_path: Path, tensor: str
) -> None:
    value = read_weights(small).tensors[tensor.replace("__", ".")].astype(np.float32).copy()
    value.flat[5] += 0.5
    weights = changed_model(tmp_path / "changed.safetensors", small, **{tensor: value})
    (tmp_path / "inbox").mkdir()
    phantom(1, lesion=True).save(tmp_path / "inbox" / "1.png")

    done = bt_daemon(
        "watch", tmp_path / "inbox", "--once", "--weights", weights, "--cache", tmp_path / "cache",
        "--db", tmp_path / "results.db",
    )  # fmt: skip

    assert done.returncode == 4
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("bt-daemon:")]
    assert "is not what its training computed" in line
    assert "copy it again from where it was trained" in line
    assert not list((tmp_path / "cache").glob("engines/*/engine.json"))


@pytest.mark.slow
def test_workers_refuse_what_nobody_compared_when_the_cache_cannot_be_written(
    small: Path, tmp_path: Path
) -> None:
    """Where no engine can be kept every worker compiles its own, and checks it."""
    (tmp_path / "engines").write_text("")
    wrong = read_weights(small).tensors["reference.logits"].astype(np.float32) + np.float32(0.5)
    weights = changed_model(tmp_path / "changed.safetensors", small, reference__logits=wrong)
    prepared, _ = prepare_engine(weights, "cpu", "fp32", tmp_path, logging.getLogger("test"))

    with (
        pytest.raises(WorkerError, match="is not what its training computed"),
        make_workers(prepared) as workers,
    ):
        judge(workers, drawn_images(tmp_path / "images"))


def test_a_file_of_an_earlier_version_without_torch_is_used_and_says_what_is_not_known(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = earlier_model(tmp_path / "earlier.safetensors", small)
    monkeypatch.setattr(daemon.engines.reference_check, "installed", lambda package: False)

    prepared = make_engine(weights, tmp_path / "engine", "fp32")

    assert "not compared with its training" in prepared.why


@pytest.mark.slow
def test_the_line_of_a_start_says_how_long_the_engine_took(
    small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    prepare_engine(small, "cpu", "fp32", tmp_path, logging.getLogger("test"))

    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("preparing the engine")
    assert second.startswith("the engine is ready after")


@pytest.mark.slow
def test_at_a_terminal_one_line_counts_the_seconds_and_goes(small: Path, tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    command = [
        *(sys.executable, "-m", "daemon.cli", "watch", str(tmp_path / "inbox"), "--once"),
        *("--weights", str(small), "--db", str(tmp_path / "r.db"), "--cache", str(tmp_path / "cache")),
    ]
    ours, theirs = pty.openpty()

    with os.fdopen(ours, "rb", buffering=0) as terminal:
        process = subprocess.Popen(command, cwd=REPOSITORY, stderr=theirs)
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while part := terminal.read(4096):
                shown += part
        code = process.wait(60)

    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert code == 0, text
    assert re.search(r"preparing the engine for this machine, once: some seconds\s+0:00:0\d", text)
    assert "info    preparing" not in text  # not a second time, as a line that stays
    assert re.search(r"the engine is ready after \d+\.\d s", text)
