"""A weights file is refused at once, in one line, for numbers that no model can have; older ones load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.errors import WeightsError
from daemon.engines.build_openvino import make_engine
from tests.support.daemons import bt_daemon
from tests.support.models import SMALL, random_tensors
from trainer.model.identity import default_weights
from trainer.model.spec import Decision, ModelSpec, OutOfDistribution
from trainer.model.weights import read_weights, write_weights
from trainer.networks.loading import load

SPEC = ModelSpec("test", "1", "cnn", ("no", "yes"), decision=Decision(positive="yes"))
WITH_LIMIT = ModelSpec("test", "1", "cnn", ("no", "yes"), out_of_distribution=OutOfDistribution(3.0, 0.97))
OOD = {"ood.means": np.zeros((2, 5), np.float32), "ood.whitening": np.zeros((5, 3), np.float32)}


@pytest.mark.defects(25)
@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("preprocessing.mean", 1e300),
        ("preprocessing.std", 1e-12),
        ("preprocessing.margin", 1e9),
        ("preprocessing.margin", -0.1),
        ("preprocessing.high_percentile", 1e308),
        ("preprocessing.low_percentile", 99.9),
        ("preprocessing.image_size", 10**6),
        ("preprocessing.image_size", 0),
        ("decision.temperature", 0),
        ("decision.temperature", 1e9),
        ("decision.threshold", 7),
        ("decision.uncertain_low", 0.9),
        ("out_of_distribution.max_distance", -1),
        ("out_of_distribution.max_distance", 1e300),
        ("out_of_distribution.acceptance", 2),
        ("architecture_options", {"channels": [10**9, 1, 1, 1]}),
        ("architecture_options", {"channels": "many"}),
        ("name", ""),
        ("name", "x" * 100_000),
        ("classes", ["no", ""]),
        ("meanings", {"yes": 5}),
        ("provenance.metrics", {"validation": {"score_quantiles": ["a"]}}),
        ("provenance.metrics", {"validation": {"score_quantiles": [float("nan")]}}),
        ("provenance.metrics", {"validation": {"score_quantiles": [0.5, 0.4]}}),
        ("provenance.metrics", {"validation": {"distance_quantiles": [-1.0]}}),
        ("provenance.metrics", {"validation": {"distance_quantiles": [1e9]}}),
        ("provenance.metrics", {"validation": {"rejected": 1.5}}),
        ("provenance.metrics", {"recalibration": {"score_quantiles": [2.0]}}),
        ("provenance.metrics", {"recalibration": 7}),
        ("provenance.metrics", {"validation": {"rejected": "few"}}),
    ],
)
def test_an_absurd_value_anywhere_in_the_description_is_refused(where: str, value: Any) -> None:
    told = json.loads(WITH_LIMIT.to_json())
    inner = told
    *outer, last = where.split(".")
    for key in outer:
        inner = inner[key]
    inner[last] = value

    with pytest.raises(WeightsError):
        ModelSpec.from_json(json.dumps(told))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"decision": {"threshold": "x"}}, "spec.decision.threshold is wrong: expected `float`, got `str`"),
        ({"classes": ["no", 1]}, r"spec.classes\[1\] is wrong: expected `str`, got `int`"),
        ({"out_of_distribution": {"max_distance": 1.0}}, "missing required field `acceptance`"),
        ({"decision": {"colour": 1}}, "spec.decision has unknown fields: 'colour'"),
        ({"decision": {"threshold": float("nan")}}, "spec.decision.threshold is not a finite number"),
        ({"decision": {"threshold": 10**400}}, "spec.decision.threshold"),
        ({"format": True}, "no format number"),
        ({"preprocessing": {"crop_head": 1}}, "expected `bool`, got `int`"),
    ],
)
def test_a_damaged_description_is_refused_by_the_name_of_its_field(
    change: dict[str, Any], words: str
) -> None:
    with pytest.raises(WeightsError, match=words):
        ModelSpec.from_json(json.dumps(json.loads(WITH_LIMIT.to_json()) | change))


@pytest.mark.defects(25)
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["head.bias", "ood.means"])
def test_a_number_that_is_none_anywhere_in_the_tensors_is_refused(
    tmp_path: Path, name: str, number: float
) -> None:
    tensors = {"head.bias": np.zeros(2, np.float32), **OOD}
    tensors[name] = tensors[name].copy()
    tensors[name].flat[-1] = number
    path = tmp_path / "w.safetensors"
    write_weights(path, WITH_LIMIT, tensors)

    with pytest.raises(WeightsError, match=f"tensor {name} holds numbers that are not finite"):
        read_weights(path)


@pytest.mark.defects(25)
@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"ood.means": OOD["ood.means"]},
        OOD | {"ood.whitening": np.zeros((4, 3), np.float32)},
        OOD | {"ood.means": np.zeros((9, 5), np.float32)},
        OOD | {"ood.means": np.zeros(5, np.float32)},
    ],
)
def test_a_distance_limit_without_its_tensors_is_refused(tmp_path: Path, tensors: dict[str, Any]) -> None:
    path = tmp_path / "w.safetensors"
    write_weights(path, WITH_LIMIT, {"head.bias": np.zeros(2, np.float32), **tensors})

    with pytest.raises(WeightsError, match="distance limit without the tensors"):
        read_weights(path)


@pytest.mark.defects(25)
def test_the_daemon_refuses_weights_that_hold_no_numbers_before_it_makes_an_engine(tmp_path: Path) -> None:
    inbox, path = tmp_path / "in", tmp_path / "w.safetensors"
    inbox.mkdir()
    whole = read_weights(default_weights())
    bias = whole.tensors["head.bias"].copy()
    bias[0] = np.nan
    write_weights(path, whole.spec, {**whole.tensors, "head.bias": bias})

    done = bt_daemon(
        "watch", inbox, "--once", "--weights", path, "--db", tmp_path / "r.db", "--cache", tmp_path / "cache"
    )

    assert done.returncode == 4
    assert done.stderr == (
        f"bt-daemon: {path}: the weights file's tensor head.bias holds numbers that are not finite; "
        "train it again\n"
    )
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
@pytest.mark.defects(25)
def test_a_network_whose_answers_are_no_numbers_is_refused_as_bad_weights(tmp_path: Path) -> None:
    """Every number of the file is one; what comes of them is not."""
    tensors = random_tensors(SMALL, 0)
    tensors["head.weight"] = np.full_like(tensors["head.weight"], 3e38)
    write_weights(tmp_path / "w.safetensors", SMALL, tensors)

    with pytest.raises(WeightsError, match="not finite") as caught:
        make_engine(tmp_path / "w.safetensors", tmp_path / "engine", "fp32")

    assert caught.value.exit_code == 4


def test_the_shipped_weights_load() -> None:
    weights = read_weights(default_weights())

    assert weights.spec.name == "bt-default"
    assert not load(weights).training
