"""History of one file, from its first version to its latest result, and the files in trouble."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage.database import reading
from storage.portable_sql import is_path
from storage.queries.results import ResultRow, rows
from storage.query import Query, Sort
from storage.records import FailureKind
from storage.schema import (
    IS_CURRENT,
    IS_PENDING,
    IS_QUARANTINED,
    FileState,
    attempt,
    file,
    folder,
    inbox,
    model,
    reason,
)

# A file rewritten all day long has many versions; its story still has to be told on a page.
_MOST_VERSIONS = 1_000


@dataclass(frozen=True, slots=True)
class Attempt:
    """One failure to judge a version."""

    at_us: int
    kind: FailureKind
    reason: str
    model: str


@dataclass(frozen=True, slots=True)
class VersionStory:
    """One version of a file, with what was tried and what came of it."""

    id: int
    state: FileState
    size: int  # bytes
    mtime_ns: int
    inode: int
    first_seen_us: int
    not_before_us: int | None  # when a pending version is tried again
    moved_to: bytes | None
    attempts: tuple[Attempt, ...]  # oldest first, failures only
    results: tuple[ResultRow, ...]  # one per model, newest first


@dataclass(frozen=True, slots=True)
class Story:
    """A path and all that was ever seen at it."""

    inbox: bytes  # absolute path
    path: bytes  # relative to the inbox
    versions: tuple[VersionStory, ...]  # newest first


@dataclass(frozen=True, slots=True)
class TroubledFile:
    """A file that was given up (quarantined) or is to be tried again."""

    id: int
    inbox: bytes  # absolute path
    path: bytes  # relative to the inbox
    state: FileState  # QUARANTINED or PENDING
    attempts: int
    kind: FailureKind
    reason: str
    at_us: int  # of the last failure
    not_before_us: int | None  # of the next try
    moved_to: bytes | None = None  # absolute path in the quarantine folder, if it was moved there


def story(connection: sa.Connection, target: int | bytes) -> list[Story]:
    """Return the stories of an id, or of a path (absolute, or relative to an inbox; several may have it)."""
    with reading(connection):
        ids = [target] if isinstance(target, int) else _ids_of_path(connection, target)
        return [found for file_id in ids if (found := _story(connection, file_id)) is not None]


def troubled(
    connection: sa.Connection, limit: int | None = None, before_id: int | None = None
) -> Iterator[TroubledFile]:
    """Yield the files that were given up or wait for another try, the latest first."""
    # Two queries under one roof: each can use its own partial index.
    given_up = sa.select(file.c.id).where(IS_QUARANTINED).correlate(None)
    again = sa.select(file.c.id).where(IS_PENDING, file.c.attempts > 0).correlate(None)
    ids = sa.union_all(given_up, again).subquery()
    query = _TROUBLED.where(file.c.id.in_(sa.select(ids.c.id)))
    if before_id is not None:
        query = query.where(file.c.id < before_id)
    with reading(connection):
        for row in connection.execute(query.order_by(file.c.id.desc()).limit(limit)):
            yield TroubledFile(
                id=row.id,
                inbox=row.inbox_path,
                path=os.path.join(row.folder_path, row.name),
                state=FileState(row.state),
                attempts=row.attempts,
                kind=FailureKind(row.kind),
                reason=row.text,
                at_us=row.at_us,
                not_before_us=row.not_before_us if row.state == FileState.PENDING else None,
                moved_to=row.moved_to,
            )


def _story(connection: sa.Connection, file_id: int) -> Story | None:
    start = connection.execute(_FILE.where(file.c.id == file_id)).one_or_none()
    if start is None:
        return None
    # From whichever version was asked for to the current one, then back along the chain.
    same_path = _FILE.where(file.c.folder_id == start.folder_id, file.c.name == start.name, IS_CURRENT)
    version: Any = connection.execute(same_path).one_or_none() or start
    versions: list[VersionStory] = []
    while version is not None and len(versions) < _MOST_VERSIONS:
        versions.append(_version(connection, version))
        version = (
            None
            if version.previous_id is None
            else connection.execute(_FILE.where(file.c.id == version.previous_id)).one_or_none()
        )
    return Story(start.inbox_path, os.path.join(start.folder_path, start.name), tuple(versions))


def _version(connection: sa.Connection, row: Any) -> VersionStory:
    tried = connection.execute(_ATTEMPTS.where(attempt.c.file_id == row.id))
    return VersionStory(
        id=row.id,
        state=FileState(row.state),
        size=row.size,
        mtime_ns=row.mtime_ns,
        inode=row.inode,
        first_seen_us=row.first_seen_us,
        not_before_us=row.not_before_us if row.state == FileState.PENDING else None,
        moved_to=row.moved_to,
        attempts=tuple(Attempt(at_us, FailureKind(kind), text, name) for at_us, kind, text, name in tried),
        results=tuple(rows(connection, Query(file_id=row.id, sort=Sort.ID))),
    )


def _ids_of_path(connection: sa.Connection, path: bytes) -> list[int]:
    found: list[int] = []
    for inbox_id, root in connection.execute(sa.select(inbox.c.id, inbox.c.path)):
        below = root.rstrip(b"/") + b"/"
        if os.path.isabs(path) and not path.startswith(below):
            continue
        folder_path, name = os.path.split(os.path.normpath(path.removeprefix(below)))
        query = (
            sa.select(file.c.id)
            .join_from(file, folder)
            .where(folder.c.inbox_id == inbox_id, is_path(folder.c.path, folder_path), file.c.name == name)
            .where(IS_CURRENT)
        )
        found += connection.execute(query).scalars().all()
    return found


_FILE = sa.select(file, folder.c.path.label("folder_path"), inbox.c.path.label("inbox_path")).select_from(
    file.join(folder).join(inbox)
)
_ATTEMPTS = (
    sa.select(attempt.c.at_us, attempt.c.kind, reason.c.text, model.c.name)
    .select_from(attempt.join(reason).join(model))
    .order_by(attempt.c.id)
)
_latest = attempt.alias("latest")
_LAST_ATTEMPT = (
    sa.select(sa.func.max(_latest.c.id))
    .where(_latest.c.file_id == file.c.id)
    .correlate(file)
    .scalar_subquery()
)
_TROUBLED = sa.select(
    file,
    attempt.c.kind,
    attempt.c.at_us,
    reason.c.text,
    folder.c.path.label("folder_path"),
    inbox.c.path.label("inbox_path"),
).select_from(file.join(folder).join(inbox).join(attempt, attempt.c.id == _LAST_ATTEMPT).join(reason))
