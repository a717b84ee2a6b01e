"""Measure how far an engine of lower precision is from the network in float32, and bound it.

A user's images are not at hand when an engine is made, so engines are compared on drawn heads. What
they show is multiplied: real slices move farther.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from daemon.engines.manifest import ErrorBound
from trainer.images.arrays import Bools, Floats, Grey
from trainer.images.phantom import phantom
from trainer.model.prediction import distances, probabilities
from trainer.model.preprocess import preprocess
from trainer.model.spec import ModelSpec, Preprocessing
from trainer.model.weights import Tensors

# What a lower precision may change: nothing about a label farther than this from the threshold, and
# no confidence by more than this.
TOLERANCE = 0.02
# Measured in bfloat16: the worst of 3,000 slices moves 4.8 times (logits) and 3.9 times (distance) as far
# as the worst of the drawn heads.
_BEYOND_DRAWN = 5.0
_DRAWN = 256
_STRENGTHS = (1.0, 0.3, 0.8, 0.0, 0.6)  # of the colours of a drawn picture
# Of images like those a model was trained on, where its file does not tell how sure it is of them.
_USUAL_SHARE = 0.25


def drawn_heads(spec: ModelSpec) -> Grey:
    """Return the network inputs (n, S, S) that precisions are compared on: drawn heads and pure noise."""
    noise = np.random.default_rng(0)
    how = spec.preprocessing
    heads = [_drawn_head(number, how) for number in range(_DRAWN - 4)]
    return np.stack([*heads, *noise.integers(0, 256, (4, *how.input_shape), dtype=np.uint8)])


def _drawn_head(number: int, preprocessing: Preprocessing) -> Grey:
    """Return one as the network's input; in colour three heads, one in each channel, not all in full."""
    if not preprocessing.is_colour:
        return preprocess(phantom(number, lesion=number % 2 == 0, label=number % 3 == 0), preprocessing)
    layers = [
        phantom(number + _DRAWN * place, lesion=number % 2 == 0, label=False).point(
            lambda grey, part=place: int(grey * _STRENGTHS[(number + part) % len(_STRENGTHS)])
        )
        for place in range(preprocessing.channels)
    ]
    return preprocess(Image.merge("RGB", layers), preprocessing)


def measured_slack(
    said: tuple[Floats, Floats], reference: tuple[Floats, Floats], spec: ModelSpec, tensors: Tensors
) -> ErrorBound:
    """Return how far an engine may be off, by logits and features of the drawn heads."""
    moved = (said[0] - reference[0]) / spec.decision.temperature
    logits = float((moved.max(axis=1) - moved.min(axis=1)).max())
    distance = 0.0
    if spec.out_of_distribution is not None:
        distance = float(np.abs(distances(said[1], tensors) - distances(reference[1], tensors)).max())
    return ErrorBound(logits * _BEYOND_DRAWN, distance * _BEYOND_DRAWN)


def disagreement(slack: ErrorBound, spec: ModelSpec) -> str:
    """Return in words what an engine with this slack could change beyond the tolerance, '' if nothing."""
    # Where a confidence moves most: in the middle, by a quarter of what the logits do.
    if not slack.logits / 4 <= TOLERANCE:  # also refuses NaN
        return f"confidences can differ by {slack.logits / 4:.3f}"
    limit = spec.out_of_distribution
    if limit is not None and not slack.distance <= TOLERANCE * limit.max_distance:
        return f"distances can differ by {slack.distance / limit.max_distance:.1%} of the limit"
    return ""


def doubtful(logits: Floats, features: Floats, slack: ErrorBound, spec: ModelSpec, tensors: Tensors) -> Bools:
    """Return for which images (batch,) the slack could change label, verdict or, too much, confidence.

    `logits` (batch, classes) and `features` (batch, channels) are the engine's; an image's answer depends
    on that image alone.
    """
    doubt = in_doubt(probabilities(logits, spec.decision.temperature), slack, spec)
    limit = spec.out_of_distribution
    if limit is not None:
        away = np.abs(distances(features, tensors) - limit.max_distance)
        doubt |= ~(away > slack.distance)
    return doubt


def in_doubt(shares: Floats, slack: ErrorBound, spec: ModelSpec) -> Bools:
    """Return which calibrated probabilities (batch, classes) the logits' slack could change too much."""
    others = 1 - shares
    with np.errstate(invalid="ignore", over="ignore"):
        high = shares / (shares + others * np.exp(-slack.logits))
        low = shares / (shares + others * np.exp(slack.logits))
        # Written so that NaN, of a picture or of the slack, is doubtful.
        doubt: Bools = ~(np.maximum(high - shares, shares - low).max(axis=1) <= TOLERANCE)
    decision = spec.decision
    cuts = [decision.uncertain_low, decision.uncertain_high]
    if decision.positive is None:
        lowest, highest = low.max(axis=1), high.max(axis=1)
        ranked = np.argsort(shares, axis=1)
        rows = np.arange(len(shares))
        doubt |= low[rows, ranked[:, -1]] <= high[rows, ranked[:, -2]]
    else:
        place = spec.classes.index(decision.positive)
        lowest, highest = low[:, place], high[:, place]
        cuts.append(decision.threshold)
    for cut in cuts:
        doubt |= (lowest < cut) & (cut <= highest)
    return doubt


def doubtful_share(slack: ErrorBound, spec: ModelSpec) -> float:
    """Return about which share of images like those a model was validated on are doubtful, 0..1."""
    told = spec.provenance.metrics.get("validation", {}).get("score_quantiles")
    if not told:
        return _USUAL_SHARE
    place = 0 if spec.decision.positive is None else spec.classes.index(spec.decision.positive)
    shares = np.zeros((len(told), len(spec.classes)), dtype=np.float32)
    shares[:, place - 1] = 1 - np.asarray(told)  # all that is left in one other class
    shares[:, place] = told
    return float(in_doubt(shares, slack, spec).mean())
