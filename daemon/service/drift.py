"""Drift of the images that are judged away from those the model was made for.

Scores, distances and the rejected share of the latest single-slice images are compared with the reference
figures in the weights file by the population stability index; files of several slices are left out, since
their answer is of the best slices and the reference's of all. What is watched, and when it warns:

- The index is the sum of (p - q) ln(p / q) over bins. Its published reading: below 0.1 no change, from 0.25
  on a large one (Lewis 1994, "An Introduction to Credit Scoring"; Siddiqi 2006, "Credit Risk Scorecards").
- Where nothing has changed the index times 1 / (1/n + 1/m) is chi-squared with one degree of freedom fewer
  than bins (Yurdakul and Naranjo 2020, "Statistical properties of the population stability index"), so a
  large index of few images proves nothing: a warning needs one beyond that distribution's 1 - 1e-4 quantile
  too. Three looks every hundred images at that level are one false alarm in 300,000 images at most.
- Slices of one study are alike, so n counts for less: it is divided by the dispersion of the bins' counts
  between blocks of a hundred images (Pearson's X2 over its degrees of freedom, McCullagh and Nelder 1989).
  For the reference m is the number of its groups, not of its images. Where all slices of long studies are
  alike no two thousand images are enough, and nothing is said.

A warning ends when the index is below 0.1 again. Another share of diseased images moves the scores as well:
the index says that something differs, not that the answers are wrong.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from storage.records import Judged, Status

if TYPE_CHECKING:
    import logging

    from daemon.service.service import Told
    from trainer.model.spec import ModelSpec

BLOCK = 100  # images between two looks; a study of so many slices stays in two blocks
BLOCKS = 20  # the window: older images are forgotten
LEAST = 500  # images, of a statistic, before anything is said of it
SMALL, LARGE = 0.1, 0.25  # the index's published reading
_FALSE_ALARM = 1e-4  # a look
_MOST_BINS = 10
_GROUPS_UNKNOWN = 500  # independent images behind reference figures that do not tell


class DriftState(StrEnum):
    """What can be said of one statistic."""

    UNKNOWN = "not known"  # the weights file has no reference figures
    FEW = "too few images"
    STEADY = "steady"
    SOME = "some change"  # between the two readings, or not more than chance
    DRIFT = "drift"


@dataclass(frozen=True, slots=True)
class Bins:
    """A reference distribution: the share of images in each of the parts that the edges make."""

    edges: tuple[float, ...]
    shares: tuple[float, ...]  # one more than edges, together 1, none of them 0
    groups: int  # independent images behind it

    def place(self, value: float) -> int:
        """Return the number of the part that holds a value."""
        return bisect_right(self.edges, value)


def reference_bins(spec: ModelSpec) -> dict[str, Bins | None]:
    """Return what a model's scores, distances and rejected share were when it was made; None: not known.

    That is, on the validation images or, after `bt-train calibrate`, on the images it was calibrated with.
    """
    metrics = spec.provenance.metrics
    found = metrics.get("recalibration") or metrics.get("validation")
    told = found if isinstance(found, dict) else {}
    groups = told.get("groups") or told.get("count")
    number = groups if isinstance(groups, int) and groups > 0 else _GROUPS_UNKNOWN
    limit = spec.out_of_distribution
    rejected = told.get("rejected")
    if not isinstance(rejected, int | float) and limit is not None:
        rejected = 1 - limit.acceptance
    share = min(0.999, max(0.001, rejected)) if isinstance(rejected, int | float) else None
    known = limit is not None and share is not None
    return {
        "score": _from_quantiles(told.get("score_quantiles"), number),
        "distance": _from_quantiles(told.get("distance_quantiles"), number) if limit is not None else None,
        "rejected": Bins((0.5,), (1 - share, share), number) if known and share is not None else None,
    }


def _from_quantiles(quantiles: object, groups: int) -> Bins | None:
    """Return about ten parts of like size, from evenly spaced quantiles: the i-th of n at (i + 1/2) / n."""
    if not isinstance(quantiles, list | tuple) or len(quantiles) < 4:
        return None
    step = max(1, round(len(quantiles) / _MOST_BINS))
    below: dict[float, float] = {}  # edge -> the share of images below it
    for place in range(step - 1, len(quantiles) - 1, step):
        edge = quantiles[place]
        # Where many images have the very same value, it begins between this quantile and the one before.
        tied = quantiles.count(edge) > 1
        level = quantiles.index(edge) / len(quantiles) if tied else (place + 0.5) / len(quantiles)
        if level > 0:
            below[float(edge)] = level
    shares = [high - low for low, high in pairwise([0.0, *below.values(), 1.0])]
    return Bins(tuple(below), tuple(shares), groups) if below else None


@dataclass(frozen=True, slots=True)
class DriftFinding:
    """What one look showed of one statistic."""

    state: DriftState
    images: int  # looked at
    index: float | None = None  # the population stability index; None: not computed
    share: float | None = None  # of the images that were rejected, for that statistic
    expected: float | None = None  # the same of the reference


def stability_index(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Return the population stability index of counts against reference shares.

    One more image, spread as the reference is, keeps empty parts from making it infinite.
    """
    total = sum(counts) + 1
    seen = [(count + share) / total for count, share in zip(counts, shares, strict=True)]
    return sum((now - then) * math.log(now / then) for now, then in zip(seen, shares, strict=True))


def dispersion(blocks: Sequence[Sequence[int]]) -> float:
    """Return how much more blocks' counts differ than those of independent images would, at least 1."""
    sums = [sum(column) for column in zip(*blocks, strict=True)]
    total, parts = sum(sums), sum(1 for one in sums if one)
    sizes = [sum(block) for block in blocks]
    freedom = (sum(1 for size in sizes if size) - 1) * (parts - 1)
    if freedom <= 0:
        return 1.0
    squares = sum(
        (count - size * whole / total) ** 2 / (size * whole / total)
        for block, size in zip(blocks, sizes, strict=True)
        for count, whole in zip(block, sums, strict=True)
        if size and whole
    )
    return max(1.0, float(squares) / freedom)


def beyond_chance(index: float, blocks: Sequence[Sequence[int]], bins: Bins) -> bool:
    """Whether an index is larger than chance makes it once in 1 / 1e-4 looks; of too few images it never is.

    Too few are fewer than five for each part (Cochran 1954, for chi-squared).
    """
    images = sum(map(sum, blocks)) / dispersion(blocks)
    return images >= 5 * len(bins.shares) and index > _chi_squared(len(bins.shares) - 1) * (
        1 / images + 1 / bins.groups
    )


def _chi_squared(freedom: int) -> float:
    """Return the 1 - 1e-4 quantile (Wilson and Hilferty 1931: good to some per cent)."""
    ninth = 2 / (9 * freedom)
    return freedom * math.pow(1 - ninth + NormalDist().inv_cdf(1 - _FALSE_ALARM) * math.sqrt(ninth), 3)


class DriftWatch:
    """Is told of every stored image; counts it, and looks every hundred images. Memory is bounded."""

    def __init__(self, spec: ModelSpec, weights_sha256: str, logger: logging.Logger) -> None:
        self._bins = reference_bins(spec)
        self._weights = weights_sha256
        self._logger = logger
        # statistic -> the counts of each block, the newest last and still being filled
        self._blocks = {name: deque([self._empty(name)], BLOCKS) for name in self._bins}
        self._filled = 0  # images in the newest block
        self._drifting: set[str] = set()
        self._findings = {name: self._finding(name) for name in self._bins}

    def stored(self, told: Sequence[Told]) -> None:
        """Count what was committed."""
        for one in told:
            result = one.outcome.result
            if isinstance(result, Judged) and result.slice_count is None:
                self._count(result)

    def snapshot(self) -> dict[str, Any]:
        """Return what was found and what is to be remembered, for the heartbeat; JSON."""
        return {
            "findings": {name: asdict(found) for name, found in self._findings.items()},
            "memory": {
                "weights": self._weights,
                "edges": {name: list(bins.edges) for name, bins in self._bins.items() if bins},
                "blocks": {name: [list(block) for block in blocks] for name, blocks in self._blocks.items()},
                "filled": self._filled,
                "drifting": sorted(self._drifting),
            },
        }

    def remember(self, told: object) -> None:
        """Go on from an earlier daemon's `snapshot`; one of another model or version is passed over."""
        memory = told.get("memory") if isinstance(told, Mapping) else None
        mine = self.snapshot()["memory"]
        if not isinstance(memory, Mapping) or any(
            memory.get(key) != mine[key] for key in ("weights", "edges")
        ):
            return
        blocks, filled = memory.get("blocks"), memory.get("filled")
        if not isinstance(blocks, Mapping) or not isinstance(filled, int) or not 0 <= filled < BLOCK:
            return
        if not all(_are_counts(blocks.get(name), len(self._empty(name))) for name in self._bins):
            return
        self._blocks = {name: deque(map(list, blocks[name]), BLOCKS) for name in self._bins}
        self._filled = filled
        self._drifting = set(memory.get("drifting") or ()) & self._bins.keys()
        self._findings = {name: self._finding(name) for name in self._bins}

    def _empty(self, name: str) -> list[int]:
        bins = self._bins[name]
        return [0] * (len(bins.shares) if bins else 0)

    def _count(self, result: Judged) -> None:
        rejected = float(result.status is Status.REJECTED)
        for name, value in (
            ("score", result.score),
            ("distance", result.distance),
            ("rejected", rejected),
        ):
            bins = self._bins[name]
            if bins is not None and value is not None:
                self._blocks[name][-1][bins.place(value)] += 1
        self._filled += 1
        if self._filled == BLOCK:
            self._look()
            self._filled = 0
            for name, blocks in self._blocks.items():
                blocks.append(self._empty(name))

    def _look(self) -> None:
        was = bool(self._drifting)
        self._findings = {name: self._finding(name) for name in self._bins}
        self._drifting = {name for name, found in self._findings.items() if found.state is DriftState.DRIFT}
        if self._drifting and not was:
            self._logger.warning(
                "the latest images differ from those the model was made for: %s; see bt-daemon status",
                self._words(),
            )
        elif was and not self._drifting:
            self._logger.info("the latest images are again like those the model was made for")

    def _finding(self, name: str) -> DriftFinding:
        bins, blocks = self._bins[name], [block for block in self._blocks[name] if sum(block)]
        images = sum(map(sum, blocks))
        if bins is None:
            return DriftFinding(DriftState.UNKNOWN, 0)
        counts = [sum(column) for column in zip(*blocks, strict=True)]
        told = (
            {"share": counts[1] / images, "expected": bins.shares[1]} if name == "rejected" and images else {}
        )
        if images < LEAST:
            return DriftFinding(DriftState.FEW, images, **told)
        index = stability_index(counts, bins.shares)
        return DriftFinding(self._state(name, index, blocks, bins), images, round(index, 4), **told)

    def _state(self, name: str, index: float, blocks: Sequence[Sequence[int]], bins: Bins) -> DriftState:
        if index < SMALL:
            return DriftState.STEADY
        begins = index >= LARGE and beyond_chance(index, blocks, bins)
        return DriftState.DRIFT if begins or name in self._drifting else DriftState.SOME

    def _words(self) -> str:
        parts = []
        for name in sorted(self._drifting):
            found = self._findings[name]
            if found.share is not None and found.expected is not None:
                parts.append(f"{found.share:.0%} of {found.images} rejected, expected {found.expected:.1%}")
            else:
                parts.append(f"{name}s (stability index {found.index:.2f} over {found.images})")
        return ", ".join(parts)


def _are_counts(blocks: object, length: int) -> bool:
    """Whether a stored value is blocks of `length` counts each."""
    return (
        isinstance(blocks, list)
        and 0 < len(blocks) <= BLOCKS
        and all(
            isinstance(block, list)
            and len(block) == length
            and all(type(count) is int and 0 <= count <= BLOCK for count in block)
            for block in blocks
        )
    )
