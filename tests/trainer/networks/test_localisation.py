"""Networks with a lesion map: what it says goes into logits and maps, and it learns where lesions are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from trainer.data.annotations import Annotations
from trainer.data.training_set import TrainingSet
from trainer.images.phantom import phantom
from trainer.model.spec import Preprocessing
from trainer.networks.classifier import Classifier
from trainer.networks.inference import predict
from trainer.networks.lite0 import Lite0
from trainer.networks.loading import load_pretrained
from trainer.networks.registry import build
from trainer.training.localisation_loss import localisation_loss

SIDE = 96


def _network() -> Classifier:
    torch.manual_seed(0)
    return build("lite0_six_map", 2, None, Preprocessing(image_size=SIDE))


def _pictures(count: int = 4) -> torch.Tensor:
    drawn = [phantom(seed, lesion=bool(seed % 2), size=SIDE, label=False) for seed in range(count)]
    return torch.from_numpy(np.stack([np.asarray(one) for one in drawn]))[:, None]


@torch.no_grad()
def test_highest_places_of_the_lesion_map_speak_for_the_class_that_is_looked_for() -> None:
    network = _network().eval()
    silent, _ = network.localised(_pictures())
    network.look_for(1)

    (logits, _, maps), lesions = network.localised(_pictures())

    assert lesions is not None
    assert lesions.shape == (4, SIDE // 16, SIDE // 16)
    assert maps.shape == (4, 2, SIDE // 16, SIDE // 16)  # twice as fine as without: 3 x 3
    highest = lesions.flatten(1).sort(dim=1, descending=True).values[:, :4].mean(dim=1)
    torch.testing.assert_close(logits[:, 1] - silent[0][:, 1], highest / 2, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits[:, 0] - silent[0][:, 0], -highest / 2, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(maps[:, 1] - silent[2][:, 1], lesions / 2, rtol=1e-4, atol=1e-4)


def test_other_networks_have_no_lesion_map() -> None:
    assert build("lite0_six", 2).eval().localised(_pictures())[1] is None


@pytest.mark.parametrize("frozen", [1, 3, 6])
def test_frozen_parts_compute_the_same_while_the_rest_is_trained(frozen: int) -> None:
    """Their norms are folded in then; what was folded is forgotten when their weights may change."""
    network = _network()
    body = network.body
    assert isinstance(body, Lite0)
    load_pretrained("lite0_six_map", network)
    network.centre(_pictures())
    network.freeze(frozen)
    network.train()
    seen: dict[str, torch.Tensor] = {}

    def remember(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen["input"] = inputs[0].detach()

    with body._blocks[frozen - 1].register_forward_pre_hook(remember):  # the first part that learns
        network(_pictures())
        folded = seen["input"]
        network.eval()
        network(_pictures())

    torch.testing.assert_close(folded, seen["input"], rtol=1e-4, atol=1e-3)
    assert not body._folded


def test_predictions_of_many_pictures_are_those_of_the_network() -> None:
    """Its norms are folded in meanwhile, and no longer afterwards."""
    network = _network()
    load_pretrained("lite0_six_map", network)
    network.centre(_pictures())
    network.eval()
    with torch.no_grad():
        logits, described, _ = network(_pictures(6))

    told, features = predict(network, _pictures(6)[:, 0].numpy(), torch.device("cpu"), batch=4)

    np.testing.assert_allclose(told, logits.numpy(), rtol=0, atol=1e-4)
    np.testing.assert_allclose(features, described.numpy(), rtol=0, atol=1e-3)
    body = network.body
    assert isinstance(body, Lite0)
    assert body._folded is None


def test_a_lesion_map_that_is_right_has_the_smaller_loss() -> None:
    maps = torch.zeros(2, 1, 24, 24)
    maps[0, :, 4:12, 4:12] = 1
    right = torch.full((2, 6, 6), -6.0)
    right[0, 1:3, 1:3] = 6.0
    known = torch.tensor([True, True])

    assert localisation_loss(right, maps, known) < 0.05
    assert localisation_loss(right.flip(1), maps, known) > 0.8
    assert localisation_loss(right.flip(0), maps, known) > 0.8


def test_pictures_of_unknown_lesions_have_no_part_in_the_loss() -> None:
    maps = torch.zeros(2, 1, 24, 24)
    lesions = torch.zeros(2, 6, 6, requires_grad=True)

    localisation_loss(lesions, maps, torch.tensor([True, False])).backward()

    assert lesions.grad is not None
    assert lesions.grad[0].abs().min() > 0
    assert not lesions.grad[1].any()
    assert localisation_loss(lesions, maps, torch.tensor([False, False])) == 0


def test_a_training_set_gives_maps_where_they_are_known() -> None:
    pictures = np.zeros((3, 32, 32), np.uint8)
    maps = np.zeros((3, 8, 8), np.uint8)
    maps[2, 1, 1] = 255
    everything = np.arange(3)
    annotations = Annotations(maps, np.array([True, False, True]))
    data = TrainingSet(
        pictures, np.array([0, 1, 1]), np.zeros(3, np.int64), everything, everything, annotations=annotations
    )

    batch = data.batch(np.array([1, 2]))

    assert batch.known.tolist() == [False, True]
    assert batch.maps.shape == (2, 1, 8, 8)
    assert batch.maps.sum() == 1
    plain = TrainingSet(pictures, np.array([0, 1, 1]), np.zeros(3, np.int64), everything, everything)
    assert plain.batch(everything).known.tolist() == [True, False, False]
