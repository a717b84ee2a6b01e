"""Series rule: one answer for the slices of a volume or series, from a count of what they say.

A slice votes with its label and its score as a logit, rounded to sixteenths; equal votes are counted, so that
one more slice costs the same whether it is the second or the two thousandth, and their order does not matter.
With a positive class the logits of the slices that speak loudest for it are averaged: the best run of three
neighbours is ruined by the false alarms of long series, the mean of the middle by tumours at the ends
(trainer/EXPERIMENTS.md). Without one, confidences are added up class by class. Slices rejected as no image of
the model's kind have no vote, unless all are.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import msgspec

from trainer.model.prediction import Verdict
from trainer.model.spec import Decision, ModelSpec, SeriesDecision

_STEPS = 16  # per unit of a logit: a score is off by less than 0.008, an average of some by far less
_BOUND = 10 * _STEPS  # logits beyond 10 count as 10
_LEVELS = 2 * _BOUND + 1


@dataclass(frozen=True, slots=True)
class SeriesAnswer:
    """What is concluded about a series, as `Prediction` is about an image."""

    verdict: Verdict
    label: str | None  # None when rejected
    confidence: float | None  # calibrated probability of `label`, 0..1; None when rejected
    score: float | None  # of the positive class, or of the label where there is none


@dataclass(frozen=True, slots=True)
class SeriesRule:
    """How the votes of slices become an answer: a part of a model's description."""

    classes: tuple[str, ...]
    decision: Decision
    series: SeriesDecision | None = None

    @classmethod
    def of(cls, spec: ModelSpec) -> SeriesRule:
        """Return the rule of a model; one without a decision about series uses that about images."""
        return cls(spec.classes, spec.decision, spec.series)

    @classmethod
    def from_json(cls, text: str) -> SeriesRule:
        """Return the rule that `to_json` wrote; raise ValueError for anything else."""
        try:
            return msgspec.convert(json.loads(text), cls)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from None

    def to_json(self) -> str:
        """Return the rule as a JSON object, to be kept beside what it decided."""
        return json.dumps(asdict(self), sort_keys=True)

    def vote(self, label: str, score: float) -> int:
        """Return the vote of one accepted slice, of its label and `Prediction.score`, 0..1."""
        return self.classes.index(label) * _LEVELS + _level(score)

    def of_scores(self, scores: Sequence[float]) -> SeriesAnswer:
        """Return the answer of accepted slices, of their scores of the positive class, at least one.

        Raises ValueError without any, and for a rule without a positive class.
        """
        positive = self.decision.positive
        if positive is None or not scores:
            raise ValueError("no scores of a positive class")
        other = next(name for name in self.classes if name != positive)
        called = [positive if score >= self.decision.threshold else other for score in scores]
        votes = Counter(map(self.vote, called, scores))
        return self._positive(positive, votes)

    def conclude(self, votes: Mapping[int, int], rejected: int = 0) -> SeriesAnswer | None:
        """Return the answer of votes with how many slices cast each, None if no slice says anything.

        `rejected` is how many more slices there are that were rejected.
        """
        if not votes:
            return SeriesAnswer(Verdict.REJECTED, None, None, None) if rejected else None
        positive = self.decision.positive
        return self._most_confident(votes) if positive is None else self._positive(positive, votes)

    def _positive(self, positive: str, votes: Mapping[int, int]) -> SeriesAnswer:
        count = sum(votes.values())
        decision = self._about(count)
        score = _sigmoid(decision.scale * _mean_of_largest(votes, decision.share) + decision.offset)
        is_positive = score >= decision.threshold
        if count == 1:  # the label that the slice has: rounding must not carry it over the threshold
            is_positive = self.classes[next(iter(votes)) // _LEVELS] == positive
        label = positive if is_positive else self._likeliest_other(positive, votes)
        unsure = decision.uncertain_low <= score < decision.uncertain_high
        verdict = Verdict.UNCERTAIN if unsure else Verdict.OK
        return SeriesAnswer(verdict, label, score if is_positive else 1 - score, score)

    def _likeliest_other(self, positive: str, votes: Mapping[int, int]) -> str:
        """Return the class that most slices are called besides the positive one; of equals the first."""
        counts = {name: 0 for name in self.classes if name != positive}
        for vote, count in votes.items():
            name = self.classes[vote // _LEVELS]
            if name != positive:
                counts[name] += count
        return max(counts, key=lambda name: counts[name])

    def _about(self, count: int) -> SeriesDecision:
        """Return the decision about so many slices: a single one is an image like any other."""
        if self.series is not None and count > 1:
            return self.series
        about = self.decision
        return SeriesDecision(
            threshold=about.threshold, uncertain_low=about.uncertain_low, uncertain_high=about.uncertain_high
        )

    def _most_confident(self, votes: Mapping[int, int]) -> SeriesAnswer:
        sums = dict.fromkeys(range(len(self.classes)), 0.0)
        for vote, count in votes.items():
            place, level = divmod(vote, _LEVELS)
            sums[place] += count * _probability(level)
        best = max(sums, key=lambda place: sums[place])
        confidence = sums[best] / sum(votes.values())
        decision = self.decision
        unsure = decision.uncertain_low <= confidence < decision.uncertain_high
        verdict = Verdict.UNCERTAIN if unsure else Verdict.OK
        return SeriesAnswer(verdict, self.classes[best], confidence, confidence)


def mean_of_loudest(scores: Sequence[float], share: float) -> float:
    """Return the mean logit of the `share` of scores (0..1) that is largest, as a series rule pools them.

    Of so many scores that the share is at least; of one score always that one. Raises ValueError without any.
    """
    if not scores:
        raise ValueError("no scores")
    return _mean_of_largest(Counter(map(_level, scores)), share)


def _mean_of_largest(votes: Mapping[int, int], share: float) -> float:
    levels: Counter[int] = Counter()
    for vote, count in votes.items():
        levels[vote % _LEVELS] += count
    wanted = max(1, math.ceil(share * levels.total() - 1e-9))  # 0.7 of ten are seven, not 7.000000000000001
    total, left = 0, wanted
    for level in sorted(levels, reverse=True):
        count = min(levels[level], left)
        total += count * (level - _BOUND)
        left -= count
        if not left:
            break
    return total / (wanted * _STEPS)


def _level(score: float) -> int:
    bounded = min(max(score, 1e-9), 1 - 1e-9)
    logit = math.log(bounded / (1 - bounded))
    return min(max(round(logit * _STEPS), -_BOUND), _BOUND) + _BOUND


def _probability(level: int) -> float:
    return _sigmoid((level - _BOUND) / _STEPS)


def _sigmoid(logit: float) -> float:
    if logit < 0:  # the exponential of a large number overflows
        return math.exp(logit) / (1 + math.exp(logit))
    return 1 / (1 + math.exp(-logit))
