"""Engines in 8-bit integers: they agree, they really are int8, and what is refused says why."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import daemon.engine_cache
import daemon.parity
from config.errors import UsageError
from daemon.compile_engine import _convert, _quantised_layers, make_engine
from daemon.engine import EngineOutput, open_engine
from daemon.engine_cache import prepare_engine
from daemon.engine_openvino import MODEL, OpenVinoEngine, openvino
from daemon.parity import probe_batch
from daemon.prepared import Compiled
from daemon.quantise import ends_with_exact_zero, quantised
from tests.parity_support import changed
from tests.training_support import draw_heads, train
from trainer.networks import build, load
from trainer.ranges import MOVES, RANGES, convolutions, measure_ranges
from trainer.weights import Weights, read_weights, write_weights
from trainer.weights_file import default_weights

# OpenVINO's converter traces the network, which torch calls deprecated.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*torch.jit.trace:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning"),
]
LOGGER = logging.getLogger("test")
SIDE = 64


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_heads(tmp_path_factory.mktemp("heads") / "heads", 24)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, heads: Path) -> Weights:
    run = tmp_path_factory.mktemp("run")
    done = train("--data", heads, "--epochs", "3", "--image-size", str(SIDE), "--samples", "64", "-o", run)
    assert done.returncode == 0, done.stderr
    return read_weights(run / "model.safetensors")


@pytest.fixture(scope="module")
def reference(trained: Weights) -> EngineOutput:
    with torch.inference_mode():
        said = load(trained)(torch.from_numpy(probe_batch(trained.spec)[:, None]))
    return EngineOutput(*(value.numpy() for value in said))


@pytest.fixture
def without_ranges(trained: Weights, tmp_path: Path) -> Path:
    """The same model as it was written before ranges were measured."""
    kept = {name: value for name, value in trained.tensors.items() if not name.startswith("int8.")}
    write_weights(tmp_path / "older.safetensors", trained.spec, kept)
    return tmp_path / "older.safetensors"


def test_an_int8_engine_agrees_and_really_computes_in_int8(
    trained: Weights, reference: EngineOutput, tmp_path: Path
) -> None:
    prepared = make_engine(trained.path, tmp_path / "engine", "int8")
    engine = open_engine(prepared)

    assert prepared.precision == "int8"
    assert prepared.network is not None
    computed = OpenVinoEngine(Path(prepared.folder), prepared.network).convolutions_in_int8()
    assert computed > 0
    assert changed(engine.run(probe_batch(trained.spec)), reference, trained.spec) == 0


def test_the_automatic_precision_tries_int8_and_says_how_fast_it_is(trained: Weights, tmp_path: Path) -> None:
    prepared = make_engine(trained.path, tmp_path / "engine", "auto")

    told = prepared.why.split("images/s per core: ")[1]
    for label in ("int8+fp32", "int8+bf16", "bf16", "fp32"):
        assert re.search(rf"(^|, ){re.escape(label)} ", told)


def test_an_engine_holds_only_the_parts_it_needs(trained: Weights, tmp_path: Path) -> None:
    prepared = make_engine(trained.path, tmp_path / "engine", "auto")

    needed = {one.file for one in (prepared.network, prepared.exact) if one is not None}
    assert {path.name for path in Path(prepared.folder).glob("*.xml")} == needed


def test_answers_that_int8_could_change_are_computed_again(
    trained: Weights, reference: EngineOutput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no more allowed than float32 itself needs, no network with int8 in it agrees alone."""
    monkeypatch.setattr(daemon.parity, "TOLERANCE", 1e-4)

    prepared = make_engine(trained.path, tmp_path / "engine", "int8")

    assert prepared.exact is not None
    assert "int8+fp32 alone: confidences can differ" in prepared.why
    said = open_engine(prepared).run(probe_batch(trained.spec))
    assert changed(said, reference, trained.spec) == 0


def test_the_most_sensitive_convolutions_may_stay_out_of_int8(trained: Weights, tmp_path: Path) -> None:
    prepared = make_engine(trained.path, tmp_path / "engine", "int8")

    assert "int8+fp32 but for 2 of 5" in prepared.why


def test_weights_without_ranges_have_no_int8_engine_and_the_error_says_what_to_do(
    without_ranges: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no ranges") as caught:
        prepare_engine(without_ranges, "cpu", "int8", tmp_path, LOGGER)

    assert "bt-train quantize" in str(caught.value)
    assert caught.value.exit_code == 2


def test_weights_without_ranges_are_loaded_and_auto_says_nothing_of_int8(
    trained: Weights, without_ranges: Path, tmp_path: Path
) -> None:
    older = load(read_weights(without_ranges))
    pictures = torch.from_numpy(probe_batch(trained.spec)[:4, None])

    with torch.inference_mode():
        assert torch.equal(older(pictures)[0], load(trained)(pictures)[0])
    assert "int8" not in make_engine(without_ranges, tmp_path / "engine", "auto").why


def test_ranges_that_do_not_fit_the_network_are_not_used(trained: Weights) -> None:
    network = load(trained)
    broken = np.full((5, 2), np.nan, dtype=np.float32)

    assert len(_quantised_layers(network, trained.tensors)) == 5
    assert _quantised_layers(network, trained.tensors | {RANGES: trained.tensors[RANGES][1:]}) == []
    assert _quantised_layers(network, trained.tensors | {RANGES: broken}) == []


def test_int8_is_refused_where_torch_computes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(daemon.engine_cache, "_cuda_devices", lambda: 1)

    with pytest.raises(UsageError, match="by OpenVINO, for processors"):
        prepare_engine(default_weights(), "cuda", "int8", tmp_path, LOGGER)


def test_quantize_adds_to_older_weights_what_training_would_have(
    without_ranges: Path, heads: Path, tmp_path: Path
) -> None:
    done = train("quantize", "--weights", without_ranges, "--data", heads, "-o", tmp_path / "new.safetensors")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("5 convolutions;")
    before, after = read_weights(without_ranges), read_weights(tmp_path / "new.safetensors")
    assert set(after.tensors) - set(before.tensors) == {RANGES, MOVES}
    assert all(np.array_equal(value, after.tensors[name]) for name, value in before.tensors.items())
    assert after.spec.decision == before.spec.decision
    assert "quantize" in after.spec.provenance.command


def test_a_trained_model_carries_the_range_of_every_convolutions_input(trained: Weights) -> None:
    ranges, moves = trained.tensors[RANGES], trained.tensors[MOVES]

    assert ranges.shape == (5, 2)
    assert moves.shape == (5,)
    np.testing.assert_array_equal(ranges[0], [-1, 1])  # a picture has black and white
    assert (ranges[1:, 0] == 0).all()  # after a ReLU
    assert (ranges[:, 1] > 0).all()
    assert (moves > 0).all()


@pytest.mark.parametrize("architecture", ["cnn", "lite0_short", "resnet18"])
def test_every_convolution_is_recognised_and_the_answers_stay(architecture: str, tmp_path: Path) -> None:
    """However a network is built and folded; the class-activation maps' own convolution stays exact."""
    network = _with_varied_norms(architecture)
    pictures = np.random.default_rng(0).integers(0, 256, (16, SIDE, SIDE), dtype=np.uint8)
    measured = measure_ranges(network, pictures, torch.device("cpu"))
    _convert(network, SIDE, tmp_path)
    whole = openvino.Core().read_model(str(tmp_path / MODEL))

    mixed_up = measured | {RANGES: measured[RANGES][::-1].copy()}
    for tensors, name in ((measured, "model.int8.xml"), (mixed_up, "model.mixed-up.xml")):
        changed = quantised(whole, _quantised_layers(network, tensors))
        openvino.save_model(changed, str(tmp_path / name), compress_to_fp16=False)
    exact, engine, wrong = (
        _opened(tmp_path, name) for name in (MODEL, "model.int8.xml", "model.mixed-up.xml")
    )
    wanted, said, nonsense = (one.run(pictures).features for one in (exact, engine, wrong))

    assert engine.convolutions_in_int8() == len(convolutions(network))
    assert exact.convolutions_in_int8() == 0
    assert np.linalg.norm(said - wanted) < 0.04 * np.linalg.norm(wanted)
    assert np.linalg.norm(said - wanted) * 2 < np.linalg.norm(nonsense - wanted)  # each has its own range


def _opened(folder: Path, name: str) -> OpenVinoEngine:
    return OpenVinoEngine(folder, Compiled(name, "fp32", 16))


def _with_varied_norms(architecture: str) -> torch.nn.Module:
    """Return an untrained network whose norms scale, turn around and shift, as trained ones do."""
    torch.manual_seed(0)
    network = build(architecture, 2).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
            module.weight.data[::7] *= -1
            module.weight.data[::11] = 0
    return network


@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-1.0, 1.0), (-3.7, 0.4), (-52.8, 53.1)])
def test_zero_is_one_of_the_values_that_8_bits_hold(low: float, high: float) -> None:
    new_low, new_high = ends_with_exact_zero(low, high)
    step = (new_high - new_low) / 255

    assert new_low / step == pytest.approx(round(new_low / step), abs=1e-9)
    assert abs(new_low - low) <= step
    assert abs(new_high - high) <= step
