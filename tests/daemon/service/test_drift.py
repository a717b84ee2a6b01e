"""Drift: chance and like neighbours raise no alarm, other images raise one, and a restart forgets nothing."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.service.drift import (
    BLOCK,
    BLOCKS,
    LARGE,
    LEAST,
    DriftState,
    DriftWatch,
    _chi_squared,
    dispersion,
    reference_bins,
    stability_index,
)
from daemon.service.service import Told
from storage.records import Entry, Failed, FailureKind, FileVersion, Judged, Outcome, Status
from storage.schema import FileState
from tests.support.daemons import bt_daemon, count, running, until
from trainer.images.phantom import phantom
from trainer.model.identity import default_weights
from trainer.model.spec import Decision, ModelSpec, OutOfDistribution, Provenance
from trainer.model.weights import read_spec

LEVELS = [(place + 0.5) / 20 for place in range(20)]
VALIDATION = {
    "groups": 800,
    "count": 1800,
    "rejected": 0.03,
    "score_quantiles": LEVELS,  # so scores of the reference are uniform
    "distance_quantiles": [10 * level for level in LEVELS],
}
SPEC = ModelSpec(
    "m", "1", "cnn", ("no", "yes"),
    decision=Decision(positive="yes"),
    out_of_distribution=OutOfDistribution(max_distance=9.7, acceptance=0.97),
    provenance=Provenance(metrics={"validation": VALIDATION}),
)  # fmt: skip
ENTRY = Entry(1, FileVersion(1, b"", b"a.png", 1, 1, 1), 0, 1)


def told(score: float, distance: float | None, **more: Any) -> Told:
    """Return what is told of an image that the model above judged."""
    status = Status.REJECTED if distance is not None and distance > 9.7 else Status.OK
    result = Judged(status, None, None, score=score, distance=distance, **more)
    return Told(ENTRY, Outcome(1, result), FileState.DONE)


def images(number: int, seed: int, *, study: int = 1, power: float = 1.0) -> Iterator[Told]:
    """Yield images in studies of so many nearly alike ones; `power` 1 is the reference's distribution."""
    rng = np.random.default_rng(seed)
    for _ in range(-(-number // study)):
        score, distance = rng.random() ** power, 10 * rng.random() ** power
        for noise in rng.normal(0, 0.01, study):
            yield told(float(np.clip(score + noise, 0, 1)), float(np.clip(distance + 10 * noise, 0, 10)))


class Watching:
    """A watch with its log."""

    def __init__(self, spec: ModelSpec = SPEC, weights: str = "ab" * 32) -> None:
        self.lines: list[tuple[str, str]] = []
        logger = logging.Logger("drift")
        logger.addHandler(self._handler())
        self.watch = DriftWatch(spec, weights, logger)

    def see(self, found: Iterable[Told]) -> None:
        self.watch.stored(list(found))

    def states(self) -> dict[str, str]:
        return {name: found["state"] for name, found in self.watch.snapshot()["findings"].items()}

    def _handler(self) -> logging.Handler:
        lines = self.lines

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                lines.append((record.levelname, record.getMessage()))

        return Handler()


def test_index_is_the_published_sum() -> None:
    counts, shares = [3000, 7000], [0.5, 0.5]

    index = stability_index(counts, shares)

    assert index == pytest.approx(0.2 * math.log(0.7 / 0.5) - 0.2 * math.log(0.3 / 0.5), abs=1e-4)
    assert stability_index([0, 9], shares) < 9  # an empty part does not make it infinite


@pytest.mark.parametrize(("freedom", "exact"), [(1, 15.137), (4, 23.513), (9, 33.720)])
def test_chance_limit_is_the_chi_squared_quantile_or_a_little_more(freedom: int, exact: float) -> None:
    """Exact values by scipy.stats.chi2.ppf(1 - 1e-4, freedom)."""
    assert exact <= _chi_squared(freedom) < 1.08 * exact


def test_dispersion_of_independent_images_is_about_one_and_of_studies_about_their_size() -> None:
    rng = np.random.default_rng(1)
    alone = rng.multinomial(100, [0.1] * 10, size=200).tolist()
    studies = (20 * rng.multinomial(5, [0.1] * 10, size=200)).tolist()

    assert 1 <= dispersion(alone) < 1.1
    assert 18 < dispersion(studies) < 22
    assert dispersion([[5, 0]]) == 1


def test_reference_of_the_shipped_model_is_what_its_weights_file_says() -> None:
    spec = read_spec(default_weights())

    bins = reference_bins(spec)

    score, rejected = bins["score"], bins["rejected"]
    assert score is not None
    assert rejected is not None
    assert len(score.shares) == 10
    assert sum(score.shares) == pytest.approx(1)
    assert set(score.edges) < set(spec.provenance.metrics["validation"]["score_quantiles"])
    assert spec.out_of_distribution is not None
    assert rejected.shares[1] <= 1 - spec.out_of_distribution.acceptance + 0.01


def test_a_recalibrated_model_is_compared_with_what_it_was_calibrated_on() -> None:
    own = VALIDATION | {"score_quantiles": [level / 2 for level in LEVELS], "groups": 40}
    spec = replace(SPEC, provenance=Provenance(metrics={"validation": VALIDATION, "recalibration": own}))

    bins = reference_bins(spec)["score"]

    assert bins is not None
    assert bins.edges[-1] < 0.5
    assert bins.groups == 40


def test_quantiles_that_repeat_make_one_part_of_all_that_are_alike() -> None:
    metrics = {"validation": VALIDATION | {"score_quantiles": [0.1] * 5 + [0.5] * 5 + [1.0] * 10}}

    bins = reference_bins(replace(SPEC, provenance=Provenance(metrics=metrics)))["score"]

    assert bins is not None
    assert bins.edges == (0.5, 1.0)
    assert bins.shares == pytest.approx((0.25, 0.25, 0.5))
    assert [bins.place(value) for value in (0.1, 0.5, 1.0)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("spec", "known"),
    [
        (replace(SPEC, provenance=Provenance()), {"rejected"}),
        (
            replace(SPEC, provenance=Provenance(metrics={"validation": {"score_quantiles": [0.5]}})),
            {"rejected"},
        ),
        (replace(SPEC, out_of_distribution=None), {"score"}),
        (replace(SPEC, provenance=Provenance(), out_of_distribution=None), set()),
    ],
)  # fmt: skip
def test_what_a_weights_file_does_not_say_is_not_known_and_never_an_alarm(
    spec: ModelSpec, known: set[str]
) -> None:
    watching = Watching(spec)

    watching.see(images(2000, 3, power=9))

    assert {name for name, state in watching.states().items() if state != DriftState.UNKNOWN} == known
    assert bool(watching.lines) == ("score" in known)


@pytest.mark.slow
def test_chance_raises_no_alarm_in_fifty_thousand_images() -> None:
    watching = Watching()

    watching.see(images(50_000, 7))

    assert not watching.lines
    assert set(watching.states().values()) == {DriftState.STEADY}


@pytest.mark.slow
@pytest.mark.parametrize("study", [25, 150])
def test_studies_of_like_slices_raise_no_alarm(study: int) -> None:
    watching = Watching()

    watching.see(images(60_000, 11, study=study))

    assert not watching.lines


def test_other_images_are_told_of_though_they_come_in_studies_of_like_slices() -> None:
    watching = Watching()

    watching.see(images(6000, 12, study=20, power=0.25))

    assert watching.states()["score"] == DriftState.DRIFT


def test_other_images_are_told_of_once_and_so_is_that_they_are_gone() -> None:
    watching = Watching()
    watching.see(images(3000, 1))

    watching.see(images(4000, 2, power=0.3))  # scores and distances higher, more rejected
    during, lines = watching.states(), list(watching.lines)
    watching.see(images(4000, 3))

    assert during["distance"] == during["score"] == DriftState.DRIFT
    assert [level for level, _ in lines] == ["WARNING"]
    assert "differ from those the model was made for: " in lines[0][1]
    assert watching.lines[1:] == [("INFO", "the latest images are again like those the model was made for")]
    assert set(watching.states().values()) == {DriftState.STEADY}


def test_more_rejected_images_alone_are_told_of_with_their_share() -> None:
    watching = Watching()
    rng = np.random.default_rng(5)

    watching.see(told(float(rng.random()), 9.9 if rng.random() < 0.4 else None) for _ in range(2000))

    assert watching.states()["rejected"] == DriftState.DRIFT
    assert any("% of " in line and "rejected, expected 3.0%" in line for _, line in watching.lines)
    assert watching.watch.snapshot()["findings"]["rejected"]["share"] == pytest.approx(0.4, abs=0.04)


def test_of_few_images_nothing_is_said() -> None:
    watching = Watching()

    watching.see(images(LEAST - 1, 2, power=0.1))
    before = watching.states()
    watching.see(images(1, 2, power=0.1))

    assert set(before.values()) == {DriftState.FEW}
    assert not [state for state in watching.states().values() if state == DriftState.FEW]


def test_volumes_and_errors_are_left_out() -> None:
    watching = Watching()

    watching.see(told(0.999, 9.0, slice_index=1, slice_count=20) for _ in range(2000))
    failed = Outcome(1, Failed(FailureKind.PERMANENT, "not an image"))
    watching.see(Told(ENTRY, failed, FileState.QUARANTINED) for _ in range(2000))

    assert {found["images"] for found in watching.watch.snapshot()["findings"].values()} == {0}


def test_a_restart_goes_on_with_what_was_counted_and_warns_of_nothing_twice() -> None:
    first, second, other = Watching(), Watching(), Watching(weights="cd" * 32)
    first.see(images(2050, 2, power=0.3))
    kept = json.loads(json.dumps(first.watch.snapshot()))

    for one in (second, other):
        one.watch.remember(kept)
    restored = second.watch.snapshot()
    for one in (first, second):
        one.see(images(300, 4, power=0.3))

    assert json.loads(json.dumps(restored["memory"])) == kept["memory"]
    assert second.watch.snapshot() == first.watch.snapshot()
    assert len(first.lines) == 1
    assert not second.lines
    assert set(other.states().values()) == {DriftState.FEW}  # of another model nothing is known yet


@pytest.mark.parametrize(
    "change",
    [
        None, 7, {}, {"memory": None}, {"memory": {"blocks": 3}},
        {"blocks": {}}, {"filled": BLOCK}, {"filled": "x"},
        {"blocks": {"score": [[1]], "distance": [[1]], "rejected": [[1]]}},
        {"blocks": {"score": [[-1] * 10], "distance": [[0] * 10], "rejected": [[0] * 2]}},
        {"edges": {}}, {"weights": ""},
    ],
)  # fmt: skip
def test_memory_of_another_version_is_passed_over(change: Any) -> None:
    watching = Watching()
    kept = json.loads(json.dumps(watching.watch.snapshot()))
    known = isinstance(change, dict) and change and change.keys() <= kept["memory"].keys()
    odd = {"memory": kept["memory"] | change} if known else change

    watching.watch.remember(odd)

    assert json.loads(json.dumps(watching.watch.snapshot())) == kept


@pytest.mark.slow
def test_memory_stays_small_however_many_images_come() -> None:
    watching = Watching()
    sizes = []
    for seed in range(3):
        watching.see(images(20_000, seed))
        sizes.append(len(json.dumps(watching.watch.snapshot())))

    memory = watching.watch.snapshot()["memory"]["blocks"]
    assert {len(blocks) for blocks in memory.values()} == {BLOCKS}
    assert max(sizes) < 3000  # bytes, in each heartbeat
    assert LARGE > 0.1


@pytest.mark.slow
def test_a_daemon_that_sees_other_images_says_so_once_in_its_log_and_for_as_long_in_its_status(
    tmp_path: Path,
) -> None:
    """Drawn heads are none that the shipped model was made for; the same bytes are inferred once."""
    inbox, database = tmp_path / "inbox", tmp_path / "r.db"
    inbox.mkdir()
    for number in range(20):
        phantom(number, lesion=bool(number % 2), size=96).save(tmp_path / "head.png")
        for copy in range(40):
            (inbox / f"{copy:02}-{number:02}.png").write_bytes((tmp_path / "head.png").read_bytes())

    with running(inbox, database=database) as daemon:
        until(lambda: count(database) == 800)
        until(lambda: "differ from those" in daemon.log.read_text())
        assert daemon.stop() == 0
    with running(inbox, database=database) as daemon:
        (inbox / "one more.png").write_bytes((tmp_path / "head.png").read_bytes())
        until(lambda: count(database) == 801)
        assert daemon.stop() == 0

    status = json.loads(bt_daemon("status", "--json", "--db", database).stdout)
    assert daemon.log.read_text().count("differ from those the model was made for") == 1
    assert DriftState.DRIFT in {found["state"] for found in status["drift"].values()}
    assert status["drift"]["rejected"]["images"] == 800  # the next look is at 900
    assert "drift" not in status["reported"]  # its memory is nobody else's business
    assert "drift" in bt_daemon("status", "--db", database).stdout
