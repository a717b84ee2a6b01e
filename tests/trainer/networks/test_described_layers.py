"""One description, two networks: torch and OpenVINO compute the same of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from daemon.engines.base import EngineOutput
from daemon.engines.build_openvino import make_engine
from daemon.engines.openvino_engine import open_graph
from trainer.images.arrays import planes
from trainer.images.decode import decode
from trainer.images.picture import Limits
from trainer.model.identity import default_weights
from trainer.model.layers import is_described
from trainer.model.preprocess import preprocess
from trainer.model.probes import probes
from trainer.model.spec import ModelSpec, Preprocessing
from trainer.model.weights import Weights, read_weights, write_weights
from trainer.networks.inference import reference_of
from trainer.networks.loading import load, tensors_of
from trainer.networks.registry import ARCHITECTURES, build

DESCRIBED = [name for name in ARCHITECTURES if is_described(name)]


def _trained(architecture: str, preprocessing: Preprocessing) -> Weights:
    """Return a network whose norms are not those of a new one, and whose first blocks are centred."""
    torch.manual_seed(0)
    network = build(architecture, 3, {}, preprocessing)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
        usual = planes(probes(preprocessing.image_size, preprocessing.channels)[:8])
        network.eval().centre(torch.from_numpy(usual))
    spec = ModelSpec("m", "1", architecture, ("a", "b", "c"), preprocessing=preprocessing)
    return Weights(Path(), "", spec, tensors_of(network))


def _of_torch(weights: Weights, pictures: np.ndarray) -> EngineOutput:
    with torch.inference_mode():
        return EngineOutput(*(one.numpy() for one in load(weights)(torch.from_numpy(planes(pictures)))))


def _assert_same(weights: Weights, pictures: np.ndarray) -> None:
    ours, theirs = open_graph(weights).run(pictures), _of_torch(weights, pictures)
    for name in ("logits", "features", "maps"):
        np.testing.assert_allclose(
            getattr(ours, name), getattr(theirs, name), rtol=0, atol=1e-4, err_msg=name
        )


@pytest.mark.slow
@pytest.mark.parametrize("side", [96, 97])
@pytest.mark.parametrize("architecture", DESCRIBED)
def test_graph_and_torch_say_the_same(architecture: str, side: int) -> None:
    weights = _trained(architecture, Preprocessing(image_size=side, mean=0.4, std=0.3))

    _assert_same(weights, probes(side)[-12:])


@pytest.mark.parametrize("architecture", DESCRIBED)
def test_graph_and_torch_say_the_same_of_colour_pictures(architecture: str) -> None:
    """Each channel with its own mean and deviation."""
    weights = _trained(architecture, Preprocessing.of_colour(64))

    _assert_same(weights, probes(64, 3)[-12:])


@pytest.mark.slow
def test_graph_and_torch_say_the_same_of_the_shipped_model() -> None:
    _assert_same(read_weights(default_weights()), probes(160)[::2])


@pytest.mark.slow
def test_graph_and_torch_label_real_slices_alike(shared: Path) -> None:
    weights = read_weights(default_weights())
    how = weights.spec.preprocessing
    files = sorted((shared / "data" / "brain-mri-253").glob("*/*"))[::2]
    decoded = [decode(path.read_bytes(), Limits(), how.image_size).slices[0].image for path in files]
    pictures = np.stack([preprocess(picture, how) for picture in decoded])

    ours, theirs = open_graph(weights).run(pictures), _of_torch(weights, pictures)

    assert len(files) > 100
    assert np.abs(ours.logits - theirs.logits).max() < 1e-4
    assert (ours.logits.argmax(axis=1) == theirs.logits.argmax(axis=1)).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
def test_an_engine_of_a_network_of_torchvision_is_made_through_torch_and_checked(
    tmp_path: Path,
) -> None:
    weights = _trained("mobilenet_v3_small", Preprocessing(image_size=64))
    reference = reference_of(load(weights), weights.spec.preprocessing).tensors()
    write_weights(tmp_path / "m.safetensors", weights.spec, weights.tensors | reference)

    prepared = make_engine(tmp_path / "m.safetensors", tmp_path / "engine", "fp32")

    assert "computes what its training computed" in prepared.why


def test_these_are_described_and_torchvisions_are_not() -> None:
    assert set(DESCRIBED) == {
        "cnn",
        "seed-cnn",
        "efficientnet_lite0",
        "lite0_short",
        "lite0_six",
        "lite0_six_map",
    }
