"""Engines: the same answers as the reference network, cached, rebuilt when in doubt."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import daemon.engines.cache
from config.errors import DeviceError, UsageError
from daemon.engines.base import EngineOutput
from daemon.engines.cache import pick_device, prepare_engine
from daemon.engines.factory import open_engine
from daemon.engines.manifest import PreparedEngine
from daemon.engines.parity import drawn_heads
from tests.conftest import REPOSITORY
from tests.support.engines import changed
from tests.support.models import SMALL, untrained_model
from trainer.images.warm_map import overlay
from trainer.model.identity import default_weights
from trainer.model.prediction import probabilities
from trainer.model.spec import ModelSpec
from trainer.model.weights import read_weights

LOGGER = logging.getLogger("test")


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    return read_weights(default_weights()).spec


@pytest.fixture(scope="module")
def probes(spec: ModelSpec) -> np.ndarray:
    return drawn_heads(spec)


@pytest.fixture(scope="module")
def prepared(engine_cache: Path) -> PreparedEngine:
    return prepare_engine(default_weights(), "cpu", "fp32", engine_cache, LOGGER)[0]


@pytest.fixture(scope="module")
def reference(prepared: PreparedEngine, probes: np.ndarray) -> EngineOutput:
    """What the engine in float32 says, one image at a time; other tests compare it with torch."""
    engine = open_engine(prepared)
    single = [engine.run(probe[None]) for probe in probes]
    return EngineOutput(
        *(np.concatenate([getattr(one, name) for one in single]) for name in ("logits", "features", "maps"))
    )


@pytest.mark.slow
def test_the_automatic_precision_agrees_with_the_reference(
    engine_cache: Path, probes: np.ndarray, reference: EngineOutput, spec: ModelSpec
) -> None:
    picked, _ = prepare_engine(default_weights(), "auto", "auto", engine_cache, LOGGER)

    said = open_engine(picked).run(probes)

    assert changed(said, reference, spec) == 0
    assert "images/s" in picked.why


@pytest.mark.slow
def test_heatmaps_agree_between_engines(
    engine_cache: Path, probes: np.ndarray, reference: EngineOutput, spec: ModelSpec
) -> None:
    """The pictures people look at differ by no more than a few shades, whatever computed them."""
    picked, _ = prepare_engine(default_weights(), "cpu", "auto", engine_cache, LOGGER)
    said = open_engine(picked).run(probes)
    place = spec.classes.index(spec.decision.positive)
    clearly = reference.maps[:, place].max(axis=(1, 2)) > 1.0  # where next to nothing speaks for the class,
    assert clearly.sum() > 50  # the strongest of it is rounding

    for picture, ours, theirs in zip(
        probes[clearly], said.maps[clearly, place], reference.maps[clearly, place], strict=True
    ):
        shades = [np.asarray(overlay(picture, one, len(picture)), dtype=np.int16) for one in (ours, theirs)]
        assert np.abs(shades[0] - shades[1]).mean() < 2
        assert np.abs(shades[0] - shades[1]).max() < 40


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", pytest.param("auto", marks=pytest.mark.slow)])
def test_confidence_does_not_depend_on_batch_mates(
    engine_cache: Path, probes: np.ndarray, spec: ModelSpec, precision: str
) -> None:
    picked, _ = prepare_engine(default_weights(), "cpu", precision, engine_cache, LOGGER)
    engine = open_engine(picked)
    temperature = spec.decision.temperature
    probes = probes[::3]
    alone = np.concatenate([engine.run(probe[None]).logits for probe in probes])

    worst = max(
        float(
            np.abs(
                probabilities(
                    np.concatenate(
                        [engine.run(probes[at : at + size]).logits for at in range(0, len(probes), size)]
                    ),
                    temperature,
                )
                - probabilities(alone, temperature)
            ).max()
        )
        for size in (2, 3, 7, 16, 32)
    )

    assert worst <= 1e-3


@pytest.mark.slow
def test_a_cached_engine_is_opened_and_a_damaged_one_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, cache = untrained_model(tmp_path / "small.safetensors", SMALL), tmp_path / "cache"
    prepared, _ = prepare_engine(weights, "cpu", "fp32", cache, LOGGER)
    made: list[Path] = []
    make = daemon.engines.cache._make

    def counted(module: str, arguments: Any, lock: Any) -> str:
        made.append(Path(arguments[1]))
        return make(module, arguments, lock)

    monkeypatch.setattr(daemon.engines.cache, "_make", counted)
    model = Path(prepared.folder) / "model.bin"

    again, _ = prepare_engine(weights, "cpu", "fp32", cache, LOGGER)
    cached = list(made)
    model.write_bytes(model.read_bytes()[:-1])
    prepare_engine(weights, "cpu", "fp32", cache, LOGGER)

    assert again == prepared
    assert cached == []
    assert made == [Path(prepared.folder)]


def test_the_process_that_prepares_imports_neither_torch_nor_openvino_nor_numpy(
    engine_cache: Path, prepared: PreparedEngine
) -> None:
    script = (
        "import logging, sys; from pathlib import Path; from daemon.engines.cache import prepare_engine\n"
        f"prepare_engine(Path({str(default_weights())!r}), 'auto', 'fp32', Path({str(engine_cache)!r}), "
        "logging.getLogger())\nprint(sorted({'torch', 'openvino', 'numpy'} & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"


def test_an_absent_cuda_device_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon.engines.cache, "installed", lambda package: True)
    monkeypatch.setattr(daemon.engines.cache, "_cuda_devices", lambda: 0)

    with pytest.raises(DeviceError, match="no CUDA device 0") as caught:
        pick_device("cuda")

    assert caught.value.exit_code == 5
    assert pick_device("auto") == "cpu"


def test_a_gpu_without_torch_is_refused_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(daemon.engines.cache, "installed", lambda package: package != "torch")

    with pytest.raises(UsageError, match=r"--device cuda:1 needs torch.*pip install 'bt-daemon\[cuda\]'"):
        pick_device("cuda:1")

    assert pick_device("auto") == "cpu"


def test_without_openvino_and_torch_one_line_says_what_to_install(
    engine_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon.engines.cache, "installed", lambda package: False)

    with pytest.raises(
        UsageError, match=r"OpenVINO is not installed, and torch.* is not installed; pip install"
    ):
        prepare_engine(default_weights(), "cpu", "auto", engine_cache, LOGGER)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:1", "auto:0", ""])
def test_a_device_that_cannot_be_meant_is_a_usage_error(device: str) -> None:
    with pytest.raises(UsageError):
        pick_device(device)
