"""A series' answer is made of counted votes: order and file boundaries say nothing, one odd slice little."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from trainer.model.prediction import Verdict
from trainer.model.series_rule import SeriesAnswer, SeriesRule, mean_of_loudest
from trainer.model.spec import Decision, ModelSpec, SeriesDecision

DECISION = Decision(positive="tumour", threshold=0.6, uncertain_low=0.55, uncertain_high=0.65)
FITTED = SeriesDecision(
    share=0.5, scale=2.0, offset=-1.0, threshold=0.7, uncertain_low=0.65, uncertain_high=0.8
)
RULE = SeriesRule(("no tumour", "tumour"), DECISION, FITTED)
PLAIN = replace(RULE, series=None)
MANY = SeriesRule(("a", "b", "c"), Decision(uncertain_low=0.0, uncertain_high=0.6))


def votes_of(rule: SeriesRule, *scores: float) -> Counter[int]:
    """Return the votes of slices with these scores of the positive class, each called by the image's rule."""
    positive = rule.decision.positive
    assert positive is not None
    other = next(name for name in rule.classes if name != positive)
    called = [positive if score >= rule.decision.threshold else other for score in scores]
    return Counter(rule.vote(label, score) for label, score in zip(called, scores, strict=True))


def answer_of(rule: SeriesRule, *scores: float, rejected: int = 0) -> SeriesAnswer:
    answer = rule.conclude(votes_of(rule, *scores), rejected)
    assert answer is not None
    return answer


def logit(score: float) -> float:
    return math.log(score / (1 - score))


def test_the_loudest_half_is_averaged_scaled_and_shifted() -> None:
    scores = (0.9, 0.8, 0.3, 0.1)

    answer = answer_of(RULE, *scores)

    pooled = 2.0 * (logit(0.9) + logit(0.8)) / 2 - 1.0
    assert answer.score == pytest.approx(1 / (1 + math.exp(-pooled)), abs=0.01)
    assert (answer.label, answer.verdict, answer.confidence) == ("tumour", Verdict.OK, answer.score)


def test_threshold_and_band_are_those_of_series() -> None:
    """A mean logit of 0.85 is 0.70 for an image, above its threshold and 0.67 for a series, below its own."""
    image, series = answer_of(PLAIN, 0.7, 0.7), answer_of(RULE, 0.7, 0.7)

    assert (image.label, image.verdict) == ("tumour", Verdict.OK)
    assert (series.label, series.verdict) == ("no tumour", Verdict.UNCERTAIN)
    assert series.confidence == pytest.approx(1 - (series.score or 0))


@pytest.mark.parametrize("score", [0.01, 0.5499, 0.5975, 0.5999, 0.6001, 0.6025, 0.99])
def test_one_slice_has_the_label_that_it_has_as_an_image(score: float) -> None:
    answer = answer_of(RULE, score)

    assert answer.label == ("tumour" if score >= DECISION.threshold else "no tumour")
    assert answer.score == pytest.approx(score, abs=0.008)


def test_a_lone_false_alarm_is_not_enough() -> None:
    assert answer_of(RULE, *[0.05] * 20, 0.999999).label == "no tumour"
    assert answer_of(PLAIN, *[0.05] * 20, 0.999999).label == "no tumour"


def test_a_tumour_in_half_of_the_slices_is_enough_however_quiet_the_others_are() -> None:
    assert answer_of(RULE, *[0.9] * 10, *[0.0001] * 10).label == "tumour"


def test_order_and_the_files_that_votes_come_in_do_not_matter() -> None:
    scores = np.random.default_rng(3).random(200).tolist()
    whole = answer_of(RULE, *scores)

    parts = votes_of(RULE, *scores[150:]) + votes_of(RULE, *scores[:150])

    assert RULE.conclude(parts) == whole == answer_of(RULE, *reversed(scores))


def test_a_slice_taken_back_leaves_the_answer_without_it() -> None:
    votes = votes_of(RULE, 0.9, 0.4, 0.4, 0.2)
    votes.subtract(votes_of(RULE, 0.9))

    assert RULE.conclude(+votes) == answer_of(RULE, 0.4, 0.4, 0.2)


def test_rounding_moves_a_score_by_less_than_a_hundredth() -> None:
    scores = np.linspace(0.001, 0.999, 1999).tolist()

    moved = [abs((answer_of(PLAIN, score).score or 0) - score) for score in scores]

    assert max(moved) < 0.008


def test_so_many_levels_are_all_that_a_long_series_has() -> None:
    votes = votes_of(RULE, *np.random.default_rng(0).random(20_000).tolist())

    assert len(votes) <= 2 * (20 * 16 + 1)
    assert votes.total() == 20_000


def test_rejected_slices_have_no_vote_and_alone_reject_the_series() -> None:
    assert answer_of(RULE, 0.9, 0.2, rejected=50) == answer_of(RULE, 0.9, 0.2)
    assert RULE.conclude({}, 3) == SeriesAnswer(Verdict.REJECTED, None, None, None)
    assert RULE.conclude({}) is None


def test_without_a_positive_class_confidences_are_added_up_by_class() -> None:
    votes = Counter([MANY.vote("b", 0.8), MANY.vote("b", 0.7), MANY.vote("a", 0.95)])

    answer = MANY.conclude(votes)

    assert answer is not None
    assert (answer.label, answer.verdict) == ("b", Verdict.UNCERTAIN)
    assert answer.confidence == answer.score == pytest.approx(0.5, abs=0.01)


def test_a_negative_series_of_many_classes_is_called_as_most_of_its_slices_are() -> None:
    rule = SeriesRule(("no", "scar", "tumour"), replace(DECISION, positive="tumour"))
    votes = Counter([rule.vote("scar", 0.1), rule.vote("scar", 0.1), rule.vote("no", 0.1)])

    answer = rule.conclude(votes)

    assert answer is not None
    assert answer.label == "scar"
    assert answer.score == pytest.approx(0.1, abs=0.008)


@pytest.mark.parametrize(("offset", "score"), [(-1000.0, 0.0), (1000.0, 1.0)])
def test_the_widest_numbers_that_a_description_may_hold_overflow_nothing(offset: float, score: float) -> None:
    rule = replace(RULE, series=replace(FITTED, scale=1000.0, offset=offset))

    assert answer_of(rule, 0.5, 0.5).score == pytest.approx(score)


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_a_score_as_sure_as_can_be_has_a_vote_like_any_other(score: float) -> None:
    assert answer_of(PLAIN, score, score).score == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize(
    ("share", "count"), [(0.01, 1), (0.3, 3), (0.5, 5), (0.51, 6), (0.7, 7), (0.99, 10), (1.0, 10)]
)
def test_a_share_is_so_many_of_ten_slices(share: float, count: int) -> None:
    scores = [number / 20 + 0.2 for number in range(10)]

    pooled = mean_of_loudest(scores, share)

    assert pooled == pytest.approx(np.mean([logit(one) for one in scores[-count:]]), abs=1 / 32)


def test_no_scores_have_no_mean() -> None:
    with pytest.raises(ValueError, match="no scores"):
        mean_of_loudest([], 0.5)


@pytest.mark.parametrize("rule", [RULE, PLAIN, MANY])
def test_a_rule_kept_as_text_is_the_same_rule(rule: SeriesRule) -> None:
    assert SeriesRule.from_json(rule.to_json()) == rule


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"classes": 3, "decision": {}}'])
def test_other_text_is_no_rule(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        SeriesRule.from_json(text)


def test_the_rule_of_a_model_is_in_its_description() -> None:
    spec = ModelSpec("m", "1", "small", ("no tumour", "tumour"), decision=DECISION, series=FITTED)

    assert SeriesRule.of(ModelSpec.from_json(spec.to_json())) == RULE
    assert SeriesRule.of(replace(spec, series=None)) == PLAIN
