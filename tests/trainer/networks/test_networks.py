"""Every architecture keeps the contract: uint8 in; logits, features and exact activation maps out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from config.errors import UsageError, WeightsError
from trainer.model.spec import ModelSpec, Preprocessing
from trainer.model.weights import read_weights, write_weights
from trainer.networks.bfloat16 import round_to_bfloat16
from trainer.networks.cost import gflops, parameters
from trainer.networks.loading import copy_fitting, load, load_pretrained, tensors_of
from trainer.networks.registry import ARCHITECTURES, build

SPEC = ModelSpec(name="test", version="1", architecture="cnn", classes=("no", "yes"))


def _pictures(count: int = 2, side: int = 64) -> torch.Tensor:
    chance = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 1, side, side), dtype=torch.uint8, generator=chance)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_architecture_returns_logits_features_and_maps_of_the_promised_shapes(name: str) -> None:
    network = build(name, 3).eval()

    with torch.no_grad():
        logits, features, maps = network(_pictures())

    assert logits.shape == (2, 3)
    assert features.ndim == 2
    assert features.shape[0] == 2
    assert maps.shape[:2] == (2, 3)
    assert {logits.dtype, features.dtype, maps.dtype} == {torch.float32}


@pytest.mark.parametrize("name", ["cnn", "seed-cnn", "resnet18", "mobilenet_v3_small"])
def test_the_mean_of_a_map_plus_the_bias_is_the_logit(name: str) -> None:
    """So a heat map shows exactly what the decision was made of."""
    network = build(name, 2).eval()

    with torch.no_grad():
        logits, _, maps = network(_pictures())

    torch.testing.assert_close(maps.mean(dim=(2, 3)) + network.head.bias, logits, rtol=1e-4, atol=1e-4)


def test_normalisation_happens_inside_the_network() -> None:
    """The same body sees the same numbers whether mean and std are applied inside or out."""
    how = Preprocessing(mean=0.3, std=0.2)
    torch.manual_seed(0)
    network = build("cnn", 2, None, how).eval()
    pictures = _pictures()

    with torch.no_grad():
        _, features, _ = network(pictures)
        outside = network.body((pictures.float() / 255 - 0.3) / 0.2)[0].mean(dim=(2, 3))

    torch.testing.assert_close(features, outside, rtol=1e-4, atol=1e-5)


def test_an_answer_does_not_depend_on_the_rest_of_the_batch() -> None:
    network = build("cnn", 2).eval()
    pictures = _pictures(4)

    with torch.no_grad():
        together = network(pictures)[0]
        alone = torch.cat([network(picture[None])[0] for picture in pictures])

    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_the_default_is_small_enough_to_ship() -> None:
    network = build("cnn", 2)

    assert parameters(network) * 4 < 5_000_000
    assert gflops(network, 256) <= 0.6


def test_weights_come_back_as_they_were_written(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = build("cnn", 2).eval()
    path = tmp_path / "m.safetensors"
    write_weights(path, SPEC, tensors_of(network))

    loaded = load(read_weights(path))

    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded(_pictures())[0], network(_pictures())[0])


def test_numbers_that_float16_holds_are_stored_as_float16_and_others_are_not(tmp_path: Path) -> None:
    tensors = {
        "exact": np.array([0.5, -1.25, 65504.0], dtype=np.float32),
        "fine": np.array([0.1], dtype=np.float32),
        "large": np.array([1e6], dtype=np.float32),
    }
    path = tmp_path / "m.safetensors"
    write_weights(path, SPEC, tensors)

    stored = read_weights(path).tensors

    assert {name: tensor.dtype for name, tensor in stored.items()} == {
        "exact": np.float16, "fine": np.float32, "large": np.float32,
    }  # fmt: skip
    for name, tensor in tensors.items():
        assert np.array_equal(stored[name].astype(np.float32), tensor)


def test_rounding_halves_the_file(tmp_path: Path) -> None:
    network = build("lite0_short", 2).eval()
    before, after = tmp_path / "before.safetensors", tmp_path / "after.safetensors"
    write_weights(before, SPEC, tensors_of(network))

    round_to_bfloat16(network, 64)

    write_weights(after, SPEC, tensors_of(network))
    assert after.stat().st_size < 0.56 * before.stat().st_size


def test_frozen_parts_learn_nothing_and_keep_their_statistics() -> None:
    torch.manual_seed(0)
    network = build("lite0_six", 2)
    network.freeze(3)
    network.train()
    before = {name: value.copy() for name, value in tensors_of(network).items()}
    optimiser = torch.optim.SGD([one for one in network.parameters() if one.requires_grad], 0.5)

    network(_pictures())[0].square().sum().backward()
    optimiser.step()

    changed = {name for name, value in tensors_of(network).items() if not np.array_equal(value, before[name])}
    kept = ("body._conv_stem.", "body._bn0.", "body._blocks.0.", "body._blocks.1.")
    assert not {name for name in changed if name.startswith(kept)}
    assert {"body._blocks.2._bn0.running_mean", "body._blocks.2._expand_conv.weight"} <= changed


@pytest.mark.parametrize(("name", "count"), [("cnn", 1), ("lite0_six", 99)])
def test_parts_that_a_network_does_not_have_cannot_be_frozen(name: str, count: int) -> None:
    with pytest.raises(UsageError, match=f"--freeze {count} cannot be"):
        build(name, 2).freeze(count)


def test_weights_of_other_shapes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_weights(path, replace(SPEC, classes=("a", "b", "c")), tensors_of(build("cnn", 2)))

    with pytest.raises(WeightsError, match="do not fit"):
        load(read_weights(path))


def test_weights_that_lack_a_tensor_are_refused(tmp_path: Path) -> None:
    tensors = tensors_of(build("cnn", 2))
    del tensors["head.bias"]
    path = tmp_path / "m.safetensors"
    write_weights(path, SPEC, tensors)

    with pytest.raises(WeightsError, match="do not fit"):
        load(read_weights(path))


def test_weights_of_an_unknown_architecture_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_weights(path, replace(SPEC, architecture="vit-22b"), tensors_of(build("cnn", 2)))

    with pytest.raises(WeightsError, match="unknown architecture"):
        load(read_weights(path))


def test_hostile_options_in_a_weights_file_are_a_weights_error(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_weights(path, replace(SPEC, architecture_options={"channels": "many"}), tensors_of(build("cnn", 2)))

    with pytest.raises(WeightsError):
        load(read_weights(path))


def test_an_unknown_architecture_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no architecture 'vgg'"):
        build("vgg", 2)


def test_starting_from_a_model_of_other_classes_takes_the_body_and_leaves_the_head() -> None:
    torch.manual_seed(0)
    start, network = build("cnn", 2), build("cnn", 4)
    head = network.head.weight.clone()

    copy_fitting(tensors_of(start), network)

    assert torch.equal(*(one.body.state_dict()["0.0.weight"] for one in (network, start)))
    assert torch.equal(network.head.weight, head)


def test_lite0_with_its_imagenet_weights_knows_pictures() -> None:
    """Wrong padding or a wrong norm would leave the tensors fitting and the features useless."""
    network = build("efficientnet_lite0", 2).eval()
    load_pretrained("efficientnet_lite0", network)
    flat = torch.full((1, 1, 224, 224), 128, dtype=torch.uint8)

    with torch.no_grad():
        described = network(torch.cat((flat, _pictures(1, 224))))[1]

    features, texture = described[:, :1280], described[:, 1280:]
    assert texture.shape == (2, 40 + 112)
    assert torch.isfinite(described).all()
    assert float(features.min()) >= 0
    assert float(features.max()) <= 6  # ReLU6
    assert float((features[0] - features[1]).abs().mean()) > 0.05


def test_pretrained_weights_that_do_not_exist_are_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no pretrained weights"):
        load_pretrained("cnn", build("cnn", 2))
