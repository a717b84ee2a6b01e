"""One answer for a file of several slices, by the rule that answers for a series of files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.model.prediction import Prediction, Verdict
from trainer.model.series_rule import SeriesAnswer, SeriesRule
from trainer.model.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Combined:
    """What is concluded about a file, and from what."""

    prediction: Prediction
    decisive: int  # place in the file of the slice that says it loudest
    votes: dict[int, int]  # of the accepted slices, see `trainer.model.series_rule`
    rejected: int  # slices without a vote


def combine(predictions: Sequence[Prediction], indices: Sequence[int], spec: ModelSpec) -> Combined:
    """Return the answer for a whole file.

    `predictions` are those of the judged slices, at least one, `indices` their places in the file. The
    decisive slice is the one where the positive class is likeliest; without a positive class the one that is
    surest of the answer; of rejected slices alone the one nearest to the training images.
    """
    rule = SeriesRule.of(spec)
    accepted = [n for n, prediction in enumerate(predictions) if prediction.verdict != Verdict.REJECTED]
    votes = Counter(rule.vote(predictions[n].label or "", predictions[n].score(spec)) for n in accepted)
    rejected = len(predictions) - len(accepted)
    answer = rule.conclude(votes, rejected)
    if answer is None or not accepted or answer.label is None or answer.confidence is None:
        decisive = min(range(len(predictions)), key=lambda n: predictions[n].distance or 0.0)
        return Combined(predictions[decisive], indices[decisive], {}, rejected)
    place = spec.classes.index(spec.decision.positive or answer.label)
    decisive = max(accepted, key=lambda n: predictions[n].probabilities[place])
    loudest = predictions[decisive]
    whole = loudest if len(predictions) == 1 else _as_prediction(answer, loudest, spec)
    return Combined(whole, indices[decisive], dict(votes), rejected)


def _as_prediction(answer: SeriesAnswer, loudest: Prediction, spec: ModelSpec) -> Prediction:
    """Return an answer as a prediction; classes it is silent about share the rest as in the loudest slice."""
    assert answer.label is not None
    assert answer.score is not None
    place = spec.classes.index(spec.decision.positive or answer.label)
    others = sum(loudest.probabilities) - loudest.probabilities[place]
    left = 1 - answer.score
    if others > 0:
        likely = [probability * left / others for probability in loudest.probabilities]
    else:  # a slice as sure as 32 bits can say tells nothing of them
        likely = [left / (len(loudest.probabilities) - 1)] * len(loudest.probabilities)
    likely[place] = answer.score
    return Prediction(answer.verdict, answer.label, answer.confidence, tuple(likely), loudest.distance)
