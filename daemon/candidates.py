"""Which engines of a lower precision a network allows, and how quick they are.

A network in bfloat16 or int8 may change answers. Then a cascade computes the doubtful ones again; and the
convolutions that mind most may stay out of int8.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from daemon.engine import EngineOutput
from daemon.engine_openvino import MODEL, SIZES, OpenVinoEngine, openvino
from daemon.parity import disagreement, doubtful_share, measured_slack
from daemon.prepared import Compiled, PreparedEngine, Slack
from daemon.quantise import Quantised, quantised
from trainer.spec import ModelSpec
from trainer.weights import Tensors

# Convolutions that stay out of int8, the most sensitive ones, per cent.
_KEPT_PERCENT = (0, 12, 25, 50)
_TIMED_RUNS = 4
# A smaller batch that is slower by less than this is taken: it needs less memory, and in a whole run two to
# eight at a time make equally many images a second. One at a time makes a tenth less.
_AS_QUICK = 1.08
_FEWEST_AT_A_TIME = 2


@dataclass(frozen=True, slots=True)
class Candidate:
    """An engine that was tried."""

    prepared: PreparedEngine
    slack: Slack  # how far it, or the quick part of a cascade, may be off
    difference: str  # what that could change, in words; "" if nothing
    label: str  # what it computes in, for people
    seconds: float  # per image, on one core


class Workshop:
    """The folder in which engines of one network are made and compared with the reference."""

    def __init__(
        self,
        blank: PreparedEngine,
        spec: ModelSpec,
        tensors: Tensors,
        probes: npt.NDArray[np.uint8],
        reference: EngineOutput,
    ) -> None:
        """Take the network that lies in the folder of `blank`, and what the reference says of the probes."""
        self.folder = Path(blank.folder)
        self.whole = openvino.Core().read_model(str(self.folder / MODEL))
        self._blank = blank
        self._spec = spec
        self._tensors = tensors
        self._probes = probes
        self._reference = reference

    def tried(self, label: str, file: str, precision: str) -> Candidate:
        """Open a network that lies in the folder, compare it and time it."""
        best = _timed_batches(self.folder, Compiled(file, precision, SIZES[-1]), self._probes)
        seconds = min(best.values())
        batch = next(size for size, took in best.items() if took <= seconds * _AS_QUICK)
        network = Compiled(file, precision, batch)
        said = OpenVinoEngine(self.folder, network).run(self._probes)
        reference = self._reference
        slack = measured_slack(
            (said.logits, said.features), (reference.logits, reference.features), self._spec, self._tensors
        )
        named = label.split("+", maxsplit=1)[0]
        prepared = replace(self._blank, precision=named, network=network)
        return Candidate(prepared, slack, disagreement(slack, self._spec), label, best[batch])

    def convolutions_in_int8(self, file: str) -> int:
        """Return how many convolutions of a network in the folder this processor computes in int8."""
        return OpenVinoEngine(self.folder, Compiled(file, "fp32", 1)).convolutions_in_int8()

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

    def write(self, model: Any, name: str) -> str:
        """Write a network and return its name."""
        openvino.save_model(model, str(self.folder / name), compress_to_fp16=False)
        return name


def in_float32(workshop: Workshop) -> Candidate:
    """Return the engine that computes all in float32."""
    return workshop.tried("fp32", MODEL, "fp32")


def in_bfloat16(workshop: Workshop, exact: Candidate) -> tuple[list[Candidate], list[str]]:
    """Return the engine in bfloat16 that agrees, and what there is to tell."""
    return _agreeing(workshop, workshop.tried("bf16", MODEL, "bf16"), exact)


def in_int8(
    workshop: Workshop, layers: Sequence[Quantised], exact: Candidate
) -> tuple[list[Candidate], list[str]]:
    """Return engines with some or all convolutions in int8 that agree, and what there is to tell.

    `layers` are sorted, the most sensitive first: fewer in int8 are slower, but leave less to compute
    again. What is not in int8 is in float32 or bfloat16.
    """
    found: list[Candidate] = []
    told: list[str] = []
    for kept in sorted({len(layers) * share // 100 for share in _KEPT_PERCENT}):
        file = workshop.write(quantised(workshop.whole, layers[kept:]), f"model.int8-{kept}.xml")
        if not workshop.convolutions_in_int8(file):
            return [], ["int8 refused: this processor computes none of it in int8"]
        for precision in ("fp32", "bf16"):
            label = f"int8+{precision}" + (f" but for {kept} of {len(layers)}" if kept else "")
            agreeing, words = _agreeing(workshop, workshop.tried(label, file, precision), exact)
            found += agreeing
            told += words
    return found, told


def _agreeing(workshop: Workshop, one: Candidate, exact: Candidate) -> tuple[list[Candidate], list[str]]:
    """Return an engine if it agrees, otherwise the cascade of it and the exact one."""
    if not one.difference:
        return [one], []
    both = workshop.cascade(one, exact)
    told = [f"{one.label} alone: {one.difference}"]
    return ([] if both.difference else [both]), told


def _timed_batches(folder: Path, network: Compiled, probes: npt.NDArray[np.uint8]) -> dict[int, float]:
    """Return the seconds per image of every batch size, the smallest size first."""
    best = {size: float("inf") for size in SIZES if size >= _FEWEST_AT_A_TIME}
    pictures = probes[: SIZES[-1]]
    engines = {size: OpenVinoEngine(folder, replace(network, batch=size)) for size in best}
    for _ in range(_TIMED_RUNS):  # in turns: what else the machine does then hits all alike
        for size, engine in engines.items():
            began = time.perf_counter()
            engine.run(pictures)
            best[size] = min(best[size], (time.perf_counter() - began) / len(pictures))
    return best
