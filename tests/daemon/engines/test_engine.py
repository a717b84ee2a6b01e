"""Engines: the same answers as the reference network, cached, rebuilt when in doubt."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import daemon.engines.cache
from config.errors import DeviceError, UsageError
from daemon.engines.base import EngineOutput
from daemon.engines.cache import pick_device, prepare_engine
from daemon.engines.factory import open_engine
from daemon.engines.manifest import PreparedEngine
from daemon.engines.parity import probe_batch
from daemon.heatmaps.overlay import overlay
from tests.conftest import REPOSITORY
from tests.support.engines import changed
from tests.support.models import OWN, own_model
from trainer.model.identity import default_weights, weights_sha256
from trainer.model.prediction import probabilities
from trainer.model.spec import ModelSpec
from trainer.model.weights import read_weights
from trainer.networks.loading import load

LOGGER = logging.getLogger("test")


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    return read_weights(default_weights()).spec


@pytest.fixture(scope="module")
def probes(spec: ModelSpec) -> np.ndarray:
    return probe_batch(spec)


@pytest.fixture(scope="module")
def reference(probes: np.ndarray) -> EngineOutput:
    """What the network says in torch, float32, one image at a time."""
    network = load(read_weights(default_weights()))
    with torch.inference_mode():
        single = [network(torch.from_numpy(probe[None, None])) for probe in probes]
    return EngineOutput(*(torch.cat(values).numpy() for values in zip(*single, strict=True)))


@pytest.fixture(scope="module")
def prepared(engine_cache: Path) -> PreparedEngine:
    return prepare_engine(default_weights(), "cpu", "fp32", engine_cache, LOGGER)[0]


@pytest.fixture
def torch_engine(prepared: PreparedEngine) -> PreparedEngine:
    return replace(prepared, kind="torch", folder="", network=None)


def test_the_compiled_engine_computes_what_the_network_computes(
    prepared: PreparedEngine, probes: np.ndarray, reference: EngineOutput
) -> None:
    said = open_engine(prepared).run(probes)

    np.testing.assert_allclose(said.logits, reference.logits, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(said.features, reference.features, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(said.maps, reference.maps, rtol=1e-3, atol=2e-3)


def test_torch_with_folded_batch_norms_computes_what_the_network_computes(
    torch_engine: PreparedEngine, probes: np.ndarray, reference: EngineOutput
) -> None:
    threads = torch.get_num_threads()
    try:
        said = open_engine(torch_engine).run(probes)
    finally:
        torch.set_num_threads(threads)

    np.testing.assert_allclose(said.logits, reference.logits, rtol=1e-3, atol=1e-3)


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


@pytest.mark.parametrize("precision", ["fp32", pytest.param("auto", marks=pytest.mark.slow)])
def test_confidence_does_not_depend_on_batch_mates(
    engine_cache: Path, probes: np.ndarray, spec: ModelSpec, precision: str
) -> None:
    picked, _ = prepare_engine(default_weights(), "cpu", precision, engine_cache, LOGGER)
    engine = open_engine(picked)
    temperature = spec.decision.temperature
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
    engine_cache: Path, prepared: PreparedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    make = daemon.engines.cache._compile

    def counted(*arguments: Any) -> None:
        made.append(arguments[1])
        make(*arguments)

    monkeypatch.setattr(daemon.engines.cache, "_compile", counted)
    model = Path(prepared.folder) / "model.bin"

    again, _ = prepare_engine(default_weights(), "cpu", "fp32", engine_cache, LOGGER)
    cached = list(made)
    model.write_bytes(model.read_bytes()[:-1])
    prepare_engine(default_weights(), "cpu", "fp32", engine_cache, LOGGER)

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


def test_without_openvino_torch_is_used_and_the_log_says_so(
    engine_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    picked, _ = prepare_engine(default_weights(), "cpu", "auto", engine_cache, LOGGER)

    assert (picked.kind, picked.precision) == ("torch", "fp32")
    assert "OpenVINO is not installed" in caplog.text


def test_an_absent_cuda_device_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon.engines.cache, "_cuda_devices", lambda: 0)

    with pytest.raises(DeviceError, match="no CUDA device 0") as caught:
        pick_device("cuda")

    assert caught.value.exit_code == 5
    assert pick_device("auto") == "cpu"


@pytest.mark.slow
def test_the_precision_of_a_device_is_sought_once_and_the_reason_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """On the CPU here, as if it were a GPU: the same process, the same comparison, torch in both.

    A small model: a processor without bfloat16 computes it a hundred times slower.
    """
    caplog.set_level(logging.INFO)
    weights = own_model(tmp_path / "own.safetensors")
    wanted = (weights, weights_sha256(weights), "cpu", "auto", tmp_path / "gpu", LOGGER)
    probes = probe_batch(OWN)
    with torch.inference_mode():
        reference = EngineOutput(
            *(values.numpy() for values in load(read_weights(weights))(torch.from_numpy(probes[:, None])))
        )

    picked, told = daemon.engines.cache._on_gpu(*wanted)
    again = daemon.engines.cache._on_gpu(*wanted)

    assert picked == again[0]
    assert caplog.text.count("looking for the fastest precision") == 1
    assert (picked.kind, picked.device) == ("torch", "cpu")
    assert told == OWN
    assert "images/s" in picked.why
    assert changed(open_engine(picked).run(probes), reference, OWN) == 0


@pytest.mark.slow
def test_a_device_that_torch_cannot_use_is_named_in_one_line(engine_cache: Path) -> None:
    weights = default_weights()

    with pytest.raises(DeviceError, match="cuda:99 cannot be used") as caught:
        daemon.engines.cache._on_gpu(
            weights, weights_sha256(weights), "cuda:99", "fp32", engine_cache, LOGGER
        )

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:1", "auto:0", ""])
def test_a_device_that_cannot_be_meant_is_a_usage_error(device: str) -> None:
    with pytest.raises(UsageError):
        pick_device(device)
