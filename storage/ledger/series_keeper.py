"""Series of a ledger: finds which one a result belongs to, and keeps their verdicts up to date.

A result belongs to the series that its path says, else to the one that the file says; a volume that says
nothing is a series of its own.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from storage.backend.backend import backend_of
from storage.ledger.ids import Names
from storage.ledger.series_verdicts import ReadRule, SeriesVerdicts, VotingRules
from storage.pseudonyms import SECRET_BYTES, pseudonym
from storage.records import Judged, PathMembership, SeriesKeys
from storage.schema import SeriesOrigin, pseudonym_key

ReadPath = Callable[[bytes], PathMembership | None]  # of a path below its inbox


@dataclass(frozen=True, slots=True)
class SeriesReading:
    """What a ledger has to be told to keep series: it knows neither models nor how paths are named."""

    read_rule: ReadRule
    read_path: ReadPath | None = None  # None: paths say nothing


class Belonging(NamedTuple):
    """The series of a result, and where in it."""

    series_id: int
    position: float | None


class SeriesKeeper:
    """What a ledger needs for series between its transactions."""

    def __init__(self, connection: sa.Connection, names: Names, reading: SeriesReading | None) -> None:
        """Without `reading` no series are kept."""
        self._connection = connection
        self._names = names
        self._reading = reading
        self._rules = VotingRules(None if reading is None else reading.read_rule)
        self._secret: bytes | None = None
        self._change_number = -1

    def secret(self) -> bytes:
        """Return what identifiers are hashed with, within a transaction: it is made the first time."""
        if self._secret is None:
            found = self._connection.execute(sa.select(pseudonym_key.c.secret)).scalar()
            if found is None:
                found = secrets.token_bytes(SECRET_BYTES)
                self._connection.execute(pseudonym_key.insert().values(id=1, secret=found))
            self._secret = bytes(found)
        return self._secret

    def forget(self) -> None:
        """Drop what is not known to be committed."""
        self._secret = None
        self._rules.forget()

    def changes(self) -> SeriesChanges:
        """Return the collected changes of one transaction, which has begun."""
        number = backend_of(self._connection).change_number(self._connection)
        if number != self._change_number:  # another process may have pruned series
            self._names.forget_series()
            self._rules.forget()
            self._change_number = number
        return SeriesChanges(self._connection, self._names, self._rules, self._reading, self.secret)

    def files_changed(self, file_ids: Sequence[int]) -> None:
        """Make the verdicts of the series of these files anew, in the transaction that changes them."""
        if file_ids and self._reading is not None:
            changes = self.changes()
            changes.change_of_files(file_ids)
            changes.write()


class SeriesChanges(SeriesVerdicts):
    """The series of one transaction's results, and their verdicts."""

    def __init__(
        self,
        connection: sa.Connection,
        names: Names,
        rules: VotingRules,
        reading: SeriesReading | None,
        secret: Callable[[], bytes],
    ) -> None:
        super().__init__(connection, names, rules)
        self._reading = reading
        self._secret = secret

    def of(self, folder_id: int, name: bytes, judged: Judged) -> Belonging | None:
        """Return the series of a file's result, made if it is new; None for a picture of no series."""
        if self._reading is None:
            return None
        inbox_id, folder_path = self._names.folder(folder_id)
        path = os.path.join(folder_path, name)
        said = None if self._reading.read_path is None else self._reading.read_path(path)
        if said is not None:
            return self._by_path(inbox_id, said)
        if judged.series is not None:
            return self._by_object(inbox_id, judged.series, judged.tags or {})
        if (judged.slice_count or 1) > 1:
            key = pseudonym(self._secret(), "file", path)
            rest = {"origin": int(SeriesOrigin.FILE)}
            return Belonging(self._names.series_id(inbox_id, key, rest), None)
        return None

    def _by_path(self, inbox_id: int, said: PathMembership) -> Belonging:
        secret = self._secret()
        patient = pseudonym(secret, "path patient", said.patient) if said.patient else None
        study = pseudonym(secret, "path study", said.patient, said.study) if said.study else None
        key = pseudonym(secret, "path series", said.patient, said.study, said.series)
        rest: dict[str, Any] = {
            "origin": int(SeriesOrigin.PATTERN),
            "study_key": study,
            "patient_key": patient,
            "name": said.series,
            "study_name": said.study or None,
            "patient_name": said.patient or None,
        }
        return Belonging(self._names.series_id(inbox_id, key, rest), said.position)

    def _by_object(self, inbox_id: int, keys: SeriesKeys, tags: dict[str, str]) -> Belonging:
        """What `--tags` asks for names a series in the clear; without it has its pseudonym only."""
        rest: dict[str, Any] = {
            "origin": int(SeriesOrigin.DICOM),
            "study_key": keys.study,
            "patient_key": keys.patient,
            "name": tags.get("SeriesInstanceUID"),
            "study_name": tags.get("StudyInstanceUID"),
            "patient_name": tags.get("PatientID"),
        }
        return Belonging(self._names.series_id(inbox_id, keys.series, rest), keys.position)
