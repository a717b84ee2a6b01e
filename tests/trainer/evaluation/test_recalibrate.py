"""`bt-train calibrate`: the decision changes, the network does not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.training import draw_heads, train
from trainer.model.identity import default_weights
from trainer.model.weights import read_weights

pytestmark = pytest.mark.slow


def test_the_copy_has_another_decision_and_the_same_network(tmp_path: Path) -> None:
    heads = draw_heads(tmp_path / "heads", 20)

    done = train("calibrate", "--data", heads, "-o", tmp_path / "ours.safetensors", "--json")

    assert done.returncode == 0, done.stderr
    before, after = read_weights(default_weights()), read_weights(tmp_path / "ours.safetensors")
    report = json.loads(done.stdout)
    assert after.sha256 == report["weights"]["sha256"]
    assert after.spec.decision != before.spec.decision
    assert after.spec.decision.threshold == report["after"]["decision"]["threshold"]
    assert report["after"]["figures"]["log_loss"]["value"] <= report["before"]["figures"]["log_loss"]["value"]
    assert all(np.array_equal(before.tensors[name], value) for name, value in after.tensors.items())
    assert "calibrate" in after.spec.provenance.command
    seen = after.spec.provenance.metrics["recalibration"]
    assert seen["count"] == 40
    assert 0 <= seen["rejected"] <= 1
    assert len(seen["score_quantiles"]) == len(seen["distance_quantiles"]) == 20
    assert after.spec.provenance.metrics["validation"] == before.spec.provenance.metrics["validation"]


@pytest.mark.parametrize(("count", "words"), [(5, "a class has only 5 images")])
def test_too_few_images_are_one_line(tmp_path: Path, count: int, words: str) -> None:
    done = train(
        "calibrate", "--data", draw_heads(tmp_path / "heads", count), "-o", tmp_path / "x.safetensors"
    )

    assert done.returncode == 2
    assert words in done.stderr
    assert not (tmp_path / "x.safetensors").exists()
