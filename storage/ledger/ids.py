"""Numbers of inboxes, folders, labels, reasons and models: rows hold numbers, not text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from storage.portable_sql import is_path
from storage.records import FileVersion, ModelRecord
from storage.schema import folder, inbox, label, model, reason, series

# Bounded, because a daemon runs for months: a full cache is emptied, the database knows it all.
_CACHED = 20_000
_PATHS = frozenset((inbox.c.path, folder.c.path))
_SERIES_NAMES = ("name", "study_name", "patient_name")


class Names:
    """Numbers for texts, cached. After a rollback `forget` must be called: numbers given are void then."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._folders: dict[tuple[int, bytes], int] = {}
        self._paths: dict[int, tuple[int, bytes]] = {}
        self._texts: dict[tuple[str, str], int] = {}
        self._series: dict[tuple[int, bytes], int] = {}
        self._session: object = None  # of the transaction before

    def forget(self) -> None:
        """Drop every number that is not known to be committed."""
        self._folders.clear()
        self._paths.clear()
        self._texts.clear()
        self._series.clear()

    def forget_other_session(self) -> bool:
        """Drop every number if a lost session was opened again since this was asked; tell whether it was.

        A server may have come back with less than was committed. To be called within a transaction.
        """
        before, self._session = self._session, self._connection.info
        if before is None or before is self._session:
            return False
        self.forget()
        return True

    def forget_series(self) -> None:
        """Drop the numbers of series: another process may have pruned some."""
        self._series.clear()

    def inbox_id(self, path: bytes) -> int:
        """Return the number of the inbox at the absolute `path`, made if need be."""
        return self._number(inbox, {"path": path})

    def folder_id(self, inbox_id: int, path: bytes) -> int:
        """Return the number of a folder of an inbox, made if need be."""
        found = self.find_folder(inbox_id, path)
        if found is None:
            found = self._number(folder, {"inbox_id": inbox_id, "path": path})
            self._keep(found, inbox_id, path)
        return found

    def find_folder(self, inbox_id: int, path: bytes) -> int | None:
        """Return the number of a folder of an inbox, None if nothing was ever seen in it."""
        found = self._folders.get((inbox_id, path))
        if found is None:
            query = sa.select(folder.c.id).where(folder.c.inbox_id == inbox_id, is_path(folder.c.path, path))
            found = self._connection.execute(query).scalar_one_or_none()
            if found is not None:
                self._keep(found, inbox_id, path)
        return found

    def folder(self, folder_id: int) -> tuple[int, bytes]:
        """Return (inbox_id, path relative to the inbox) of a folder that is in the database."""
        found = self._paths.get(folder_id)
        if found is None:
            query = sa.select(folder.c.inbox_id, folder.c.path).where(folder.c.id == folder_id)
            row = self._connection.execute(query).one()
            found = (int(row.inbox_id), bytes(row.path))
            self._keep(folder_id, *found)
        return found

    def label_id(self, name: str) -> int:
        """Return the number of a class name, made if need be."""
        return self._text(label, "name", name)

    def reason_id(self, text: str) -> int:
        """Return the number of a reason, made if need be."""
        return self._text(reason, "text", text)

    def series_id(self, inbox_id: int, key: bytes, rest: dict[str, Any]) -> int:
        """Return the number of a series of an inbox, made with the `rest` of its columns if need be."""
        found = self._series.get((inbox_id, key))
        if found is None:
            found = self._number(series, {"inbox_id": inbox_id, "series_key": key}, rest)
            self._name_series(found, rest)
            if len(self._series) >= _CACHED:
                self._series.clear()
            self._series[inbox_id, key] = found
        return found

    def _name_series(self, number: int, rest: dict[str, Any]) -> None:
        """Give a series that was known without them the names that are asked for now."""
        named = {name: rest[name] for name in _SERIES_NAMES if rest.get(name) is not None}
        if named:
            kept = {name: sa.func.coalesce(series.c[name], text) for name, text in named.items()}
            self._connection.execute(series.update().where(series.c.id == number).values(kept))

    def model_id(self, record: ModelRecord, now_us: int) -> int:
        """Return the number of a model on an engine, made if need be.

        What its scores are compared with is stored each time: schema 0001 did not know it.
        """
        compared = {
            "positive": record.positive,
            "threshold": record.threshold,
            "uncertain_low": record.uncertain_low,
            "uncertain_high": record.uncertain_high,
            "series_rule": record.series_rule,
        }
        number = self._number(
            model,
            {
                "weights_sha256": record.weights_sha256,
                "engine": record.engine,
                "precision": record.precision,
                "device": record.device,
            },
            {
                "name": record.name,
                "version": record.version,
                "classes": json.dumps(record.classes),
                "why": record.why,
                "first_used_us": now_us,
            },
        )
        self._connection.execute(model.update().where(model.c.id == number).values(compared))
        return number

    def _text(self, table: sa.Table, column: str, text: str) -> int:
        key = (table.name, text)
        found = self._texts.get(key)
        if found is None:
            found = self._number(table, {column: text})
            if len(self._texts) >= _CACHED:
                self._texts.clear()
            self._texts[key] = found
        return found

    def _number(self, table: sa.Table, key: dict[str, Any], rest: dict[str, Any] | None = None) -> int:
        query = sa.select(table.c.id).where(*(_is(table.c[name], value) for name, value in key.items()))
        found = self._connection.execute(query).scalar_one_or_none()
        if found is None:
            made = self._connection.execute(table.insert().values(**key, **(rest or {})))
            assert made.inserted_primary_key is not None
            found = made.inserted_primary_key[0]
        return int(found)

    def _keep(self, number: int, inbox_id: int, path: bytes) -> None:
        if len(self._paths) >= _CACHED:
            self._folders.clear()
            self._paths.clear()
        self._folders[inbox_id, path] = number
        self._paths[number] = (inbox_id, path)


def _is(column: sa.Column[Any], value: Any) -> sa.ColumnElement[bool]:
    return is_path(column, value) if column in _PATHS else column == value


# So many names or ids go into one statement: far below SQLite's limit, and past the point where the
# cost of a statement shows.
_CHUNK = 500


def by_folder(versions: Iterable[FileVersion]) -> dict[tuple[int, bytes], list[FileVersion]]:
    """Return versions by inbox id and folder."""
    groups: dict[tuple[int, bytes], list[FileVersion]] = {}
    for version in versions:
        groups.setdefault((version.inbox_id, version.folder), []).append(version)
    return groups


def chunks(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yield ids in parts that one statement takes."""
    for start in range(0, len(ids), _CHUNK):
        yield ids[start : start + _CHUNK]
