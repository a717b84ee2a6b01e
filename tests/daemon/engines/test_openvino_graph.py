"""Graphs of OpenVINO from a weights file: what torch computes, and what does not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from config.errors import WeightsError
from daemon.engines.openvino_engine import open_graph
from daemon.engines.openvino_graph import graph
from tests.support.models import SMALL, random_tensors
from trainer.model.identity import default_weights
from trainer.model.spec import ModelSpec, Preprocessing
from trainer.model.weights import Weights, read_weights


def test_a_network_of_torchvision_has_no_graph() -> None:
    assert graph(replace(SMALL, architecture="resnet18"), {}) is None


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"body.2.0.weight": np.zeros((4, 4, 5, 5), np.float32)}, "body.2.0.weight|2.0.weight is"),
        ({"head.weight": np.zeros((2, 9), np.float32)}, "do not fit"),
        ({"body.9.0.weight": np.zeros(1, np.float32)}, "unknown tensor body.9.0.weight"),
        ({"body.0.1.bias": np.zeros(3, np.float32)}, "do not fit"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_in_one_line(tensors: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(WeightsError, match=said) as caught:
        graph(SMALL, random_tensors(SMALL, 0) | tensors)

    assert "\n" not in str(caught.value)


def test_a_missing_tensor_is_named() -> None:
    tensors = random_tensors(SMALL, 0)
    del tensors["body.4.1.running_var"]

    with pytest.raises(WeightsError, match=r"body\.4\.1\.running_var"):
        graph(SMALL, tensors)


@pytest.mark.parametrize(
    "architecture", ["cnn", "seed-cnn", "efficientnet_lite0", "lite0_short", "lite0_six", "lite0_six_map"]
)
def test_an_answer_does_not_depend_on_batch_mates(architecture: str) -> None:
    spec = ModelSpec("m", "1", architecture, ("a", "b", "c"), preprocessing=Preprocessing(image_size=48))
    engine = open_graph(Weights(Path(), "", spec, random_tensors(spec, 2)))
    pictures = np.random.default_rng(0).integers(0, 256, (9, 48, 48), dtype=np.uint8)

    together = engine.run(pictures)
    alone = [engine.run(picture[None]) for picture in pictures]

    np.testing.assert_allclose(together.logits, np.concatenate([one.logits for one in alone]), atol=1e-5)
    assert together.logits.shape == (9, 3)


def test_the_shipped_model_has_a_graph_with_its_outputs() -> None:
    weights = read_weights(default_weights())

    said = open_graph(weights).run(np.zeros((1, 160, 160), dtype=np.uint8))

    assert [one.shape for one in (said.logits, said.features, said.maps)] == [
        (1, 2),
        (1, 408),
        (1, 2, 10, 10),
    ]
