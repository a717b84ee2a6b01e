"""Cascades of a quick and an exact engine: whose answers they give, and when."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from config.errors import UsageError
from daemon.engines.base import EngineOutput
from daemon.engines.build_openvino import make_engine
from daemon.engines.cascade import CascadeEngine
from daemon.engines.factory import open_engine
from daemon.engines.manifest import ErrorBound
from daemon.engines.openvino_engine import open_compiled, openvino
from daemon.engines.parity import (
    TOLERANCE,
    disagreement,
    doubtful,
    doubtful_share,
    drawn_heads,
    in_doubt,
    measured_slack,
)
from tests.support.engines import changed
from tests.support.models import SMALL, untrained_model
from trainer.model.identity import default_weights
from trainer.model.prediction import judge
from trainer.model.spec import Decision, ModelSpec, OutOfDistribution, Provenance
from trainer.model.weights import Tensors, read_weights

SIDE = 8
DECISION = Decision(positive="yes", threshold=0.3, uncertain_low=0.2, uncertain_high=0.4)
SPEC = ModelSpec("m", "1", "cnn", ("no", "yes"), decision=DECISION)
ONE_MEAN: Tensors = {
    "ood.means": np.zeros((2, 1), dtype=np.float16),
    "ood.whitening": np.ones((1, 1), dtype=np.float16),
}
Floats = npt.NDArray[np.float32]


class Numbers:
    """An engine that says of a picture what its first pixels spell, off by a little."""

    def __init__(self, off: float = 0.0) -> None:
        self.off = off
        self.seen = 0

    def run(self, batch: npt.NDArray[np.uint8]) -> EngineOutput:
        self.seen += len(batch)
        margins = ((batch[:, 0, 0].astype(np.float32) - 128) / 16 + self.off).astype(np.float32)
        logits = np.stack([-margins / 2, margins / 2], axis=1).astype(np.float32)
        return EngineOutput(logits, margins[:, None], np.repeat(logits, 4).reshape(-1, 2, 2, 2))


def pictures(*pixels: int) -> npt.NDArray[np.uint8]:
    batch = np.zeros((len(pixels), SIDE, SIDE), dtype=np.uint8)
    batch[:, 0, 0] = pixels
    return batch


def logits_of(*chances: float) -> Floats:
    margins = np.log(np.array(chances) / (1 - np.array(chances)))
    return np.stack([-margins / 2, margins / 2], axis=1).astype(np.float32)


def test_doubtful_images_are_the_exact_engines_and_the_others_the_quick_ones() -> None:
    quick, exact = Numbers(off=0.3), Numbers()
    cascade = CascadeEngine(quick, exact, ErrorBound(0.3, 0.0), SPEC, {})
    batch = pictures(0, 120, 255, 130)  # margins -8, -0.5, 7.9, 0.1

    said = cascade.run(batch)

    for place in (1, 3):
        assert said.logits[place].tolist() == Numbers().run(batch).logits[place].tolist()
        assert said.features[place].tolist() == Numbers().run(batch).features[place].tolist()
        assert said.maps[place].tolist() == Numbers().run(batch).maps[place].tolist()
    for place in (0, 2):
        assert said.logits[place].tolist() == Numbers(off=0.3).run(batch).logits[place].tolist()
    assert (quick.seen, exact.seen) == (4, 2)


def test_an_answer_does_not_depend_on_batch_mates() -> None:
    cascade = CascadeEngine(Numbers(off=0.2), Numbers(), ErrorBound(0.2, 0.0), SPEC, {})
    batch = pictures(*range(256))

    alone = np.concatenate([cascade.run(batch[place : place + 1]).logits for place in range(256)])

    assert np.array_equal(cascade.run(batch).logits, alone)


@pytest.mark.parametrize("off", [-0.4, -0.1, 0.1, 0.4])
def test_whatever_the_slack_allows_no_label_and_no_verdict_changes(off: float) -> None:
    """Over all margins, with errors of both directions up to the slack, and a distance limit on top."""
    spec = replace(SPEC, out_of_distribution=OutOfDistribution(max_distance=3.0, acceptance=0.97))
    cascade = CascadeEngine(Numbers(off), Numbers(), ErrorBound(0.41, 0.41), spec, ONE_MEAN)
    batch = pictures(*range(256))

    ours, theirs = (
        judge(said.logits, said.features, spec, ONE_MEAN)
        for said in (cascade.run(batch), Numbers().run(batch))
    )

    assert [(one.label, one.verdict) for one in ours] == [(one.label, one.verdict) for one in theirs]
    assert all(
        abs(one.probabilities[1] - other.probabilities[1]) <= TOLERANCE
        for one, other in zip(ours, theirs, strict=True)
    )
    assert {one.verdict.value for one in theirs} == {"ok", "uncertain", "rejected"}


def test_what_is_not_a_number_is_doubtful() -> None:
    broken = np.full((1, 2), np.nan, dtype=np.float32)

    assert doubtful(broken, broken[:, :1], ErrorBound(0.1, 0.1), SPEC, {}).all()
    assert in_doubt(np.array([[0.0, 1.0]], dtype=np.float32), ErrorBound(float("nan"), 0.0), SPEC).all()


@pytest.mark.parametrize(("chance", "expected"), [(0.001, False), (0.29, True), (0.5, True), (0.999, False)])
def test_doubt_is_where_rounding_matters(chance: float, expected: bool) -> None:
    found = doubtful(logits_of(chance), np.zeros((1, 1), dtype=np.float32), ErrorBound(0.3, 0.0), SPEC, {})

    assert found.tolist() == [expected]


def test_even_the_smallest_slack_is_doubtful_at_the_threshold() -> None:
    shares = np.array([[0.7, 0.3], [0.75, 0.25]], dtype=np.float32)

    assert in_doubt(shares, ErrorBound(0.001, 0.0), SPEC).tolist() == [True, False]


def test_without_a_positive_class_two_close_classes_are_doubtful() -> None:
    spec = ModelSpec("m", "1", "cnn", ("a", "b", "c"))
    shares = np.array([[0.495, 0.485, 0.02], [0.02, 0.97, 0.01]], dtype=np.float32)

    assert in_doubt(shares, ErrorBound(0.03, 0.0), spec).tolist() == [True, False]


def test_the_share_of_doubtful_images_comes_from_the_validation_scores() -> None:
    sure, unsure = [0.001] * 9 + [0.3], [0.3] * 10

    def spec(quantiles: list[float]) -> ModelSpec:
        return replace(SPEC, provenance=Provenance(metrics={"validation": {"score_quantiles": quantiles}}))

    assert doubtful_share(ErrorBound(0.3, 0.0), spec(sure)) == pytest.approx(0.1)
    assert doubtful_share(ErrorBound(0.3, 0.0), spec(unsure)) == 1
    assert 0 < doubtful_share(ErrorBound(0.3, 0.0), SPEC) < 1


def test_slack_is_more_than_what_was_seen_on_drawn_heads() -> None:
    reference = (logits_of(0.2, 0.8), np.array([[1.0], [2.0]], dtype=np.float32))
    said = (reference[0] + np.array([[0.0, 0.01]], dtype=np.float32), reference[1] + np.float32(0.5))
    spec = replace(SPEC, out_of_distribution=OutOfDistribution(max_distance=3.0, acceptance=0.97))

    slack = measured_slack(said, reference, spec, ONE_MEAN)

    assert slack.logits > 0.02
    assert slack.distance > 1.0
    assert disagreement(ErrorBound(0.0, 0.0), spec) == ""
    assert "confidences can differ by 0.250" in disagreement(ErrorBound(1.0, 0.0), spec)
    assert "distances can differ" in disagreement(ErrorBound(0.0, 1.0), spec)
    assert disagreement(ErrorBound(float("nan"), 0.0), spec)
    assert disagreement(ErrorBound(0.0, float("nan")), spec)


@pytest.mark.slow
def test_what_bfloat16_could_change_is_computed_again(tmp_path: Path) -> None:
    """The shipped model in bfloat16: alone it is refused, in a cascade it agrees."""
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor does not compute in bfloat16")
    weights = read_weights(default_weights())
    probes = drawn_heads(weights.spec)
    exact = make_engine(default_weights(), tmp_path / "exact", "fp32")
    prepared = make_engine(default_weights(), tmp_path / "engine", "bf16")
    if prepared.exact is None:
        pytest.skip("this processor computes bfloat16 in float32")
    assert prepared.network is not None

    reference = open_engine(exact).run(probes)
    rough = open_compiled(Path(prepared.folder), prepared.network).run(probes)
    said = open_engine(prepared).run(probes)

    assert not np.allclose(rough.logits, reference.logits, atol=1e-3)
    assert changed(said, reference, weights.spec) == 0
    assert "bf16 alone: confidences can differ" in prepared.why


def test_a_precision_that_the_processor_lacks_is_refused_in_one_line(tmp_path: Path) -> None:
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor computes in bfloat16")
    weights = untrained_model(tmp_path / "small.safetensors", SMALL)

    with pytest.raises(UsageError, match="this processor does not compute in bf16") as caught:
        make_engine(weights, tmp_path / "engine", "bf16")

    assert "\n" not in str(caught.value)
    assert not (tmp_path / "engine").exists()
