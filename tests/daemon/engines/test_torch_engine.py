"""The engine through torch: the same answers, on a GPU or where there is no OpenVINO."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import daemon.engines.cache
from config.errors import DeviceError
from daemon.engines.base import EngineOutput
from daemon.engines.cache import prepare_engine
from daemon.engines.factory import open_engine
from daemon.engines.manifest import PreparedEngine
from daemon.engines.parity import drawn_heads
from tests.support.engines import changed
from tests.support.models import OWN, SMALL, untrained_model
from trainer.model.identity import default_weights, weights_sha256
from trainer.model.weights import read_weights
from trainer.networks.loading import load

LOGGER = logging.getLogger("test")


@pytest.fixture(scope="module")
def probes() -> np.ndarray:
    return drawn_heads(read_weights(default_weights()).spec)[::4]


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


@pytest.mark.slow
def test_the_compiled_engine_computes_what_the_network_computes(
    prepared: PreparedEngine, probes: np.ndarray, reference: EngineOutput
) -> None:
    said = open_engine(prepared).run(probes)

    np.testing.assert_allclose(said.logits, reference.logits, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(said.features, reference.features, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(said.maps, reference.maps, rtol=1e-3, atol=2e-3)


@pytest.mark.slow
def test_torch_with_folded_batch_norms_computes_what_the_network_computes(
    torch_engine: PreparedEngine, probes: np.ndarray, reference: EngineOutput
) -> None:
    threads = torch.get_num_threads()
    try:
        said = open_engine(torch_engine).run(probes)
    finally:
        torch.set_num_threads(threads)

    np.testing.assert_allclose(said.logits, reference.logits, rtol=1e-3, atol=1e-3)


def test_without_openvino_torch_is_used_and_the_log_says_so(
    engine_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(daemon.engines.cache, "installed", lambda package: package != "openvino")

    picked, _ = prepare_engine(default_weights(), "cpu", "auto", engine_cache, LOGGER)

    assert (picked.kind, picked.precision) == ("torch", "fp32")
    assert "OpenVINO is not installed" in caplog.text


@pytest.mark.slow
def test_the_precision_of_a_device_is_sought_once_and_the_reason_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """On the CPU here, as if it were a GPU: the same process, the same comparison, torch in both.

    A small model: a processor without bfloat16 computes it a hundred times slower.
    """
    caplog.set_level(logging.INFO)
    spec = replace(SMALL, decision=OWN.decision)
    weights = untrained_model(tmp_path / "small.safetensors", spec)
    wanted = (weights, weights_sha256(weights), "cpu", "auto", tmp_path / "gpu", LOGGER)
    probes = drawn_heads(spec)
    with torch.inference_mode():
        reference = EngineOutput(
            *(values.numpy() for values in load(read_weights(weights))(torch.from_numpy(probes[:, None])))
        )

    picked, told = daemon.engines.cache._on_gpu(*wanted)
    again = daemon.engines.cache._on_gpu(*wanted)

    assert picked == again[0]
    assert caplog.text.count("looking for the fastest precision") == 1
    assert (picked.kind, picked.device) == ("torch", "cpu")
    assert told == spec
    assert "images/s" in picked.why
    assert changed(open_engine(picked).run(probes), reference, spec) == 0


@pytest.mark.slow
def test_a_device_that_torch_cannot_use_is_named_in_one_line(engine_cache: Path) -> None:
    weights = default_weights()

    with pytest.raises(DeviceError, match="cuda:99 cannot be used") as caught:
        daemon.engines.cache._on_gpu(
            weights, weights_sha256(weights), "cuda:99", "fp32", engine_cache, LOGGER
        )

    assert "\n" not in str(caught.value)
