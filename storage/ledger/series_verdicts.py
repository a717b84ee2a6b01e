"""Verdicts of series, kept up to date in the transaction that changes their slices' results.

A slice that comes is added to what its series' slices say so far, whatever their number; where one goes or
changes (overwritten, judged again, pruned) the verdict is made anew of the rows that are left. Both lead to
the same verdict, because all that counts are numbers of equal votes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa

from storage.ledger.ids import Names, chunks
from storage.ledger.votes import decoded, encoded
from storage.records import Status
from storage.schema import (
    ERROR_CODE,
    STATUS_CODES,
    FileState,
    file,
    label,
    model,
    result,
    series,
    series_verdict,
)
from storage.statements import Prepared, PreparedIn
from storage.upsert import Upsert, many_upserts

_REJECTED = STATUS_CODES[Status.REJECTED]


class Conclusion(Protocol):
    """What a rule concludes about a series."""

    @property
    def verdict(self) -> str:
        """One of the words of Status."""

    @property
    def label(self) -> str | None:
        """The class, None if all slices are rejected."""

    @property
    def confidence(self) -> float | None:
        """Of the class, 0..1."""

    @property
    def score(self) -> float | None:
        """Of the class of interest, 0..1."""


class VotingRule(Protocol):
    """How slices' scores become the answer for a series."""

    def vote(self, label: str, score: float) -> int:
        """Return what a slice says: below 2**32 - 1."""

    def conclude(self, votes: Mapping[int, int], rejected: int = 0) -> Conclusion | None:
        """Return the answer of how many slices say what; None if there is no slice at all."""


ReadRule = Callable[[str], VotingRule]


class Contribution(NamedTuple):
    """What one result adds to its series."""

    file_id: int
    status: int
    label: str | None
    confidence: float | None
    score: float | None
    votes: bytes | None  # of a file of several slices
    slice_count: int | None
    completed_us: int


@dataclass(slots=True)
class _Sum:
    """What the slices of a series say together."""

    votes: Counter[int] = field(default_factory=Counter)
    rejected: int = 0
    files: int = 0
    loudest_file_id: int | None = None
    loudest_score: float | None = None
    first_us: int = 0
    touched_us: int = 0

    def add(self, one: Contribution, rule: VotingRule) -> None:
        if one.votes is not None:
            votes, rejected = decoded(one.votes)
            self.votes.update(votes)
            self.rejected += rejected
        elif one.status == _REJECTED:
            self.rejected += 1
        elif one.label is not None and one.score is not None:
            self.votes[rule.vote(one.label, one.score)] += 1
        if one.status != _REJECTED and one.score is not None:
            self._hear(one.file_id, one.score)
        self.first_us = min(self.first_us, one.completed_us) if self.files else one.completed_us
        self.touched_us = max(self.touched_us, one.completed_us)
        self.files += 1

    def _hear(self, file_id: int, score: float) -> None:
        loudest = (self.loudest_score, -(self.loudest_file_id or 0))
        if loudest[0] is None or (score, -file_id) > loudest:
            self.loudest_file_id, self.loudest_score = file_id, score


class VotingRules:
    """The rules of models, read once each."""

    def __init__(self, read: ReadRule | None) -> None:
        """`read` makes a rule of what is stored with a model; without it none has a rule."""
        self._read = read
        self._known: dict[int, VotingRule | None] = {}

    def of(self, connection: sa.Connection, model_id: int) -> VotingRule | None:
        """Return the rule of a model; None for one that was last used before there were series."""
        if self._read is None:
            return None
        if model_id not in self._known:
            query = sa.select(model.c.series_rule).where(model.c.id == model_id)
            text = connection.execute(query).scalar_one_or_none()
            self._known[model_id] = None if text is None else self._read(text)
        return self._known[model_id]

    def forget(self) -> None:
        """Read them again."""
        self._known.clear()


class SeriesVerdicts:
    """The verdicts of one transaction: collected, and written once."""

    def __init__(self, connection: sa.Connection, names: Names, rules: VotingRules) -> None:
        self._connection = connection
        self._names = names
        self._rules = rules
        self._added: dict[tuple[int, int], list[Contribution]] = {}
        self._changed: set[tuple[int, int]] = set()

    def add(self, series_id: int, model_id: int, contribution: Contribution) -> None:
        """Add a result that its series did not have."""
        self._added.setdefault((series_id, model_id), []).append(contribution)

    def change(self, series_id: int, model_id: int) -> None:
        """Make the verdict anew: one of its results is another now, or gone."""
        self._changed.add((series_id, model_id))

    def change_of_files(self, file_ids: Sequence[int]) -> None:
        """Make the verdicts anew, under every model, of the series that files are or were part of."""
        for ids in chunks(file_ids):
            query = sa.select(result.c.series_id, result.c.model_id).distinct()
            query = query.where(result.c.file_id.in_(ids), result.c.series_id.is_not(None))
            self._changed.update((row.series_id, row.model_id) for row in self._connection.execute(query))

    def write(self) -> None:
        """Write what has changed, in the transaction of the results and after them."""
        rows = []
        for model_id in {key[1] for key in (*self._added, *self._changed)}:
            rule = self._rules.of(self._connection, model_id)
            if rule is None:
                continue
            added = {key[0]: found for key, found in self._added.items() if key[1] == model_id}
            changed = {key[0] for key in self._changed if key[1] == model_id}
            rows += self._grown(model_id, rule, added, changed)
            for series_id in changed:
                rows += self._anew(series_id, model_id, rule)
        _UPSERT.write(self._connection, rows)
        self._added.clear()
        self._changed.clear()

    def _grown(
        self, model_id: int, rule: VotingRule, added: Mapping[int, list[Contribution]], changed: set[int]
    ) -> list[tuple[Any, ...]]:
        """Return the rows of series that only gained slices; name those that have to be made anew."""
        held = {row[0]: row for row in _HELD.all(self._connection, (model_id,), list(added))}
        rows = []
        for series_id, contributions in added.items():
            so_far = _Sum() if series_id not in held else _sum_of(held[series_id])
            if series_id in changed or so_far is None:
                changed.add(series_id)
                continue
            for one in contributions:
                so_far.add(one, rule)
            rows += self._row(series_id, model_id, rule, so_far)
        return rows

    def _anew(self, series_id: int, model_id: int, rule: VotingRule) -> list[tuple[Any, ...]]:
        """Return the row of a series of the results that are there; delete it if there is none."""
        found = [Contribution(*row) for row in _RESULTS.all(self._connection, (series_id, model_id))]
        if len(found) == 1 and found[0].votes is None and (found[0].slice_count or 1) > 1:
            return [self._own(series_id, model_id, found[0])]
        total = _Sum()
        for one in found:
            total.add(one, rule)
        rows = self._row(series_id, model_id, rule, total)
        if not rows:
            gone = (series_verdict.c.series_id == series_id) & (series_verdict.c.model_id == model_id)
            self._connection.execute(series_verdict.delete().where(gone))
        return rows

    def _row(self, series_id: int, model_id: int, rule: VotingRule, total: _Sum) -> list[tuple[Any, ...]]:
        answer = rule.conclude(total.votes, total.rejected)
        if answer is None:
            return []
        label_id = None if answer.label is None else self._names.label_id(answer.label)
        status = STATUS_CODES[Status(answer.verdict)]
        judged = (status, label_id, answer.confidence, answer.score)
        counts = (total.votes.total(), total.rejected, total.files, encoded(total.votes))
        times = (total.first_us, total.touched_us)
        loudest = (total.loudest_file_id, total.loudest_score)
        return [(series_id, model_id, *judged, *counts, *loudest, *times)]

    def _own(self, series_id: int, model_id: int, one: Contribution) -> tuple[Any, ...]:
        """Return the row of a volume whose slices' votes were not kept: it is its own answer."""
        label_id = None if one.label is None else self._names.label_id(one.label)
        judged = (one.status, label_id, one.confidence, one.score)
        count = one.slice_count or 0
        slices = (0, count) if one.status == _REJECTED else (count, 0)
        loudest = (one.file_id, one.score) if one.status != _REJECTED else (None, None)
        times = (one.completed_us, one.completed_us)
        return (series_id, model_id, *judged, *slices, 1, b"", *loudest, *times)


def drop_empty_series(connection: sa.Connection) -> None:
    """Delete series that no result names any more."""
    named = sa.exists().where(result.c.series_id == series.c.id)
    connection.execute(
        series_verdict.delete().where(series_verdict.c.series_id.in_(sa.select(series.c.id).where(~named)))
    )
    connection.execute(series.delete().where(~named))


def _sum_of(row: Sequence[Any]) -> _Sum | None:
    """Return what a stored verdict rests on; None for one that does not tell."""
    _, slices, rejected, files, votes, *rest = row
    if slices and not votes:
        return None
    return _Sum(Counter(decoded(votes)[0]), rejected, files, *rest)


_COLUMNS = [column.name for column in series_verdict.columns]
_KEYS = ("series_id", "model_id")
_UPSERT = many_upserts(
    Upsert(series_verdict, _KEYS, lambda new: {name: new[name] for name in _COLUMNS if name not in _KEYS}),
    _COLUMNS,
)
_VERDICT = series_verdict.c
_HELD = PreparedIn(
    lambda ids: sa.select(
        _VERDICT.series_id,
        _VERDICT.slices,
        _VERDICT.rejected,
        _VERDICT.files,
        _VERDICT.votes,
        _VERDICT.loudest_file_id,
        _VERDICT.loudest_score,
        _VERDICT.first_us,
        _VERDICT.touched_us,
    ).where(_VERDICT.model_id == sa.bindparam("model_id"), _VERDICT.series_id.in_(ids)),
    ["model_id"],
)
_RESULTS = Prepared(
    sa.select(
        result.c.file_id,
        result.c.status,
        label.c.name,
        result.c.confidence,
        result.c.score,
        result.c.votes,
        result.c.slice_count,
        result.c.completed_us,
    )
    .select_from(result.join(file).outerjoin(label, label.c.id == result.c.label_id))
    .where(
        result.c.series_id == sa.bindparam("in_series"),
        result.c.model_id == sa.bindparam("by_model"),
        result.c.status != sa.literal_column(str(ERROR_CODE)),
        file.c.state != sa.literal_column(str(int(FileState.SUPERSEDED))),
    ),
    ["in_series", "by_model"],
)
