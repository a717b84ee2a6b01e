"""Measure which engines of lower precision a network allows, and how fast they are.

A network in bfloat16 may change answers. Then a cascade computes the doubtful ones again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from daemon.engines.factory import open_engine
from daemon.engines.manifest import Compiled, ErrorBound, PreparedEngine
from daemon.engines.openvino_engine import MODEL, SIZES, open_compiled
from daemon.engines.parity import disagreement, doubtful_share, drawn_heads, measured_slack
from trainer.images.arrays import Grey
from trainer.model.probes import probes
from trainer.model.spec import ModelSpec
from trainer.model.weights import Tensors

_TIMED_TURNS, _TIMED_RUNS = 2, 2
# A smaller batch that is slower by less than this is taken: it needs less memory, and in a whole run two to
# eight at a time make equally many images a second. One at a time makes a tenth less.
_AS_QUICK = 1.08
_FEWEST_AT_A_TIME = 2


@dataclass(frozen=True, slots=True)
class Candidate:
    """An engine that was tried."""

    prepared: PreparedEngine
    slack: ErrorBound  # how far it, or the quick part of a cascade, may be off
    difference: str  # what that could change, in words; "" if nothing
    label: str  # what it computes in, for people
    seconds: float  # per image, on one core


class EngineBuilder:
    """The folder in which engines of one network are made, timed and compared with each other."""

    def __init__(self, blank: PreparedEngine, spec: ModelSpec, tensors: Tensors) -> None:
        """Take the network that lies in the folder of `blank`."""
        self.folder = Path(blank.folder)
        self._blank = blank
        self._spec = spec
        self._tensors = tensors
        self._timed_on = probes(spec.preprocessing.image_size, spec.preprocessing.channels)[: SIZES[-1]]

    def tried(self, precision: str) -> Candidate:
        """Return the engine of a precision, timed, at its best batch size."""
        best = _timed_batches(self.folder, Compiled(MODEL, precision, SIZES[-1]), self._timed_on)
        seconds = min(best.values())
        batch = next(size for size, took in best.items() if took <= seconds * _AS_QUICK)
        network = Compiled(MODEL, precision, batch)
        prepared = replace(self._blank, precision=precision, network=network)
        return Candidate(prepared, ErrorBound(0.0, 0.0), "", precision, best[batch])

    def compared(self, precision: str, exact: Candidate) -> Candidate:
        """Return the engine of a precision, timed, and how far it may be off the exact one."""
        candidate = self.tried(precision)
        pictures = drawn_heads(self._spec)
        said, reference = (open_engine(one.prepared).run(pictures) for one in (candidate, exact))
        slack = measured_slack(
            (said.logits, said.features), (reference.logits, reference.features), self._spec, self._tensors
        )
        return replace(candidate, slack=slack, difference=disagreement(slack, self._spec))

    def cascade(self, quick: Candidate, exact: Candidate) -> Candidate:
        """Return the engine that computes again by `exact` what `quick` could get wrong."""
        share = doubtful_share(quick.slack, self._spec)
        assert exact.prepared.network is not None
        # One by one: few are doubtful at a time, larger batches would be filled up and take memory.
        alone = replace(exact.prepared.network, batch=1)
        return Candidate(
            replace(quick.prepared, exact=alone, slack=quick.slack),
            quick.slack,
            "" if np.isfinite([quick.slack.logits, quick.slack.distance]).all() else quick.difference,
            f"{quick.label} with {share:.0%} again in {exact.label}",
            quick.seconds + share * exact.seconds,
        )


def _timed_batches(folder: Path, network: Compiled, pictures: Grey) -> dict[int, float]:
    """Return the seconds per image of every batch size, the smallest size first."""
    best = {size: float("inf") for size in SIZES if size >= _FEWEST_AT_A_TIME}
    for _ in range(_TIMED_TURNS):  # in turns: what else the machine does then hits all alike
        for size in list(best):
            # One at a time: all of them together would take a quarter of a gigabyte more.
            engine = open_compiled(folder, replace(network, batch=size))
            for _ in range(_TIMED_RUNS):
                began = time.perf_counter()
                engine.run(pictures)
                best[size] = min(best[size], (time.perf_counter() - began) / len(pictures))
    return best
