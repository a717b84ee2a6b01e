"""Engines are checked against the answers that training left in the weights file."""

from __future__ import annotations

import logging
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
from tests.support.daemons import bt_daemon
from tests.support.models import SMALL, changed_model, earlier_model, untrained_model
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


def test_a_file_of_an_earlier_version_without_torch_is_used_and_says_what_is_not_known(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = earlier_model(tmp_path / "earlier.safetensors", small)
    monkeypatch.setattr(daemon.engines.reference_check, "installed", lambda package: False)

    prepared = make_engine(weights, tmp_path / "engine", "fp32")

    assert "not compared with its training" in prepared.why


def test_the_line_of_a_start_says_how_long_the_engine_took(
    small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    prepare_engine(small, "cpu", "fp32", tmp_path, logging.getLogger("test"))

    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("preparing the engine")
    assert second.startswith("the engine is ready after")
