"""One answer for a file of several slices: a finding must show on neighbouring slices to count.

The largest single probability of a hundred slices is large by chance alone, and one artefact is
enough. A lesion worth finding shows on slices next to each other, so the answer is that of the best
run of three neighbours: the mean of their calibrated probabilities, judged by the same threshold as
a picture. Slices that are rejected as no image of the model's kind (below the skull base, above the
vertex) have no vote, unless all are rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from trainer.model.prediction import Prediction, Verdict, conclude
from trainer.model.spec import ModelSpec

_NEIGHBOURS = 3  # slices that have to agree; more would outvote a small lesion, fewer trust an artefact


def combine(
    predictions: Sequence[Prediction], indices: Sequence[int], spec: ModelSpec
) -> tuple[Prediction, int]:
    """Return the prediction for a whole file and the index of the slice that decided it.

    `predictions` are those of the judged slices in their order in the file, at least one, `indices`
    their places in it. With a positive class (`spec.decision.positive`) the best run of three
    neighbours decides, and within it the slice where that class is likeliest; without one, the mean
    of all accepted slices, and the slice that is surest of the label. The distance is that slice's.
    """
    if len(predictions) == 1:
        return predictions[0], indices[0]
    accepted = [n for n, prediction in enumerate(predictions) if prediction.verdict != Verdict.REJECTED]
    if not accepted:
        nearest = min(range(len(predictions)), key=lambda n: predictions[n].distance or 0.0)
        return predictions[nearest], indices[nearest]
    shares = np.array([predictions[n].probabilities for n in accepted], dtype=np.float32)  # (slices, classes)
    positive = spec.decision.positive
    if positive is None:
        mean = shares.mean(axis=0)
        best = int(shares[:, int(mean.argmax())].argmax())
    else:
        place = spec.classes.index(positive)
        run = _best_run(shares[:, place])
        mean = shares[run].mean(axis=0)
        best = run.start + int(shares[run, place].argmax())
    decisive = accepted[best]
    answer = replace(conclude(mean, spec, None), distance=predictions[decisive].distance)
    return answer, indices[decisive]


def _best_run(scores: np.ndarray) -> slice:
    """Return the run of neighbours (all of them if they are fewer) with the largest mean."""
    length = min(_NEIGHBOURS, len(scores))
    sums = np.convolve(scores, np.ones(length, dtype=scores.dtype), mode="valid")
    start = int(sums.argmax())
    return slice(start, start + length)
