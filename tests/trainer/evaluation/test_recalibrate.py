"""`bt-train calibrate`: the decision changes, the network does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.training import draw_heads, train
from trainer.model.identity import default_weights
from trainer.model.spec import SeriesDecision
from trainer.model.weights import read_weights, write_weights

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


def test_what_is_known_of_series_holds_at_another_temperature(tmp_path: Path) -> None:
    """Slices' logits are divided by more or less than before, which the slope makes up for."""
    heads = draw_heads(tmp_path / "heads", 20)
    weights = read_weights(default_weights())
    before = replace(weights.spec, series=SeriesDecision(scale=1.5, offset=-0.5, threshold=0.6))
    write_weights(tmp_path / "before.safetensors", before, weights.tensors, weights.seen)

    done = train(
        "calibrate", "--weights", tmp_path / "before.safetensors", "--data", heads,
        "-o", tmp_path / "ours.safetensors",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    after = read_weights(tmp_path / "ours.safetensors").spec
    assert before.series is not None
    assert after.series is not None
    assert after.series.scale / after.decision.temperature == pytest.approx(
        before.series.scale / before.decision.temperature
    )
    assert replace(after.series, scale=1.5) == before.series


@pytest.mark.parametrize(("count", "words"), [(5, "a class has only 5 images")])
def test_too_few_images_are_one_line(tmp_path: Path, count: int, words: str) -> None:
    done = train(
        "calibrate", "--data", draw_heads(tmp_path / "heads", count), "-o", tmp_path / "x.safetensors"
    )

    assert done.returncode == 2
    assert words in done.stderr
    assert not (tmp_path / "x.safetensors").exists()
