"""Inboxes that files can be uploaded to, and what became of a file that was."""

from __future__ import annotations

import os
from dataclasses import dataclass

import sqlalchemy as sa

from config.text import printable_name
from storage.database import reading
from storage.ledger.heartbeat import latest_heartbeat
from storage.schema import IS_CURRENT, FileState, file, folder, inbox

_STATES = {FileState.DONE: "judged", FileState.QUARANTINED: "failed"}


@dataclass(frozen=True, slots=True)
class UploadInbox:
    """A folder that the daemon watches, or watched last, and that can be written here."""

    id: int
    root: bytes  # absolute

    @property
    def name(self) -> str:
        """The path as people see it."""
        return printable_name(self.root)


def upload_inboxes(connection: sa.Connection) -> list[UploadInbox]:
    """Return the inboxes of the daemon that started last, by path, that can be written here."""
    with reading(connection):
        beat = latest_heartbeat(connection)
        rows = connection.execute(sa.select(inbox.c.id, inbox.c.path).order_by(inbox.c.path)).all()
    told = [] if beat is None else beat.snapshot.get("inboxes", [])
    # A folder that is away (unmounted, replaced) is no inbox for now: what is put there may vanish.
    watched = {one.get("path") for one in told if isinstance(one, dict) and one.get("state") != "degraded"}
    known = [UploadInbox(row.id, bytes(row.path)) for row in rows]
    return [one for one in known if one.name in watched and _is_writable(one.root)]


def state_of_upload(
    connection: sa.Connection, inbox_id: int, name: bytes, mtime_ns: int
) -> tuple[str, int | None]:
    """Return "waiting", "judged" or "failed", and the file's number once the daemon has found it."""
    query = (
        sa.select(file.c.id, file.c.state)
        .join(folder, folder.c.id == file.c.folder_id)
        .where(folder.c.inbox_id == inbox_id, folder.c.path == b"")
        .where(file.c.name == name, file.c.mtime_ns == mtime_ns, IS_CURRENT)
    )
    with reading(connection):
        row = connection.execute(query).one_or_none()
    if row is None:
        return "waiting", None
    return _STATES.get(FileState(row.state), "waiting"), int(row.id)


def _is_writable(root: bytes) -> bool:
    return os.path.isdir(root) and os.access(root, os.W_OK | os.X_OK)
