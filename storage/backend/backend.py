"""Backend: the protocol of a kind of database, and the one that a connection belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import sqlalchemy as sa

# Short: the daemon has its own patience (it keeps the turn and tries again), a command may be told.
BUSY_SECONDS = 5.0
# What is said to whoever finds a daemon on the database.
ONE_DAEMON_HINT = "stop it, name all inboxes in one watch command, or give this one another --db"
# The option of an engine's connections that names their backend.
OPTION = "bt_backend"


class Backend(Protocol):
    """One database: how it is opened, and what its connections need told apart from another kind's."""

    @property
    def place(self) -> str:
        """Where the database is, as it is shown: never with a password."""

    @property
    def stand_in(self) -> Path:
        """The path that what lies beside a database is named after: the file itself, if it is one."""

    def open_writer(self, busy_seconds: float, *, checkpoints: bool, sole: bool) -> sa.Connection:
        """Open for writing, made and migrated if need be; see `storage.database.open_writer`."""

    def open_reader(self, busy_seconds: float) -> sa.Connection:
        """Open a database that is there, for reading only."""

    def open_beside(self, busy_seconds: float) -> sa.Connection:
        """Open a database that is there, for a few short transactions beside the daemon."""

    def open_any(self) -> sa.Connection:
        """Open a database that is there for reading, whatever tables it has."""

    def stored_revision(self, connection: sa.Connection) -> str | None:
        """Return the schema revision, None if there is no schema of ours yet, within a transaction."""

    def change_number(self, connection: sa.Connection) -> int:
        """Return a number that is another one after others have committed, within a transaction."""

    def place_of(self, connection: sa.Connection) -> str:
        """Return where the database of an open connection is, as errors name it."""

    def is_sound(self, connection: sa.Connection) -> bool:
        """Tell whether a database that was called damaged is sound at a second look."""

    def give_up(self, connection: sa.Connection) -> None:
        """Leave a transaction that could not be rolled back in the usual way."""

    def close_whole(self, connection: sa.Connection, lost: Path | None) -> None:
        """Close a writer; see `storage.database.close_whole`."""


def backend_of(connection: sa.Connection) -> Backend:
    """Return the backend that opened a connection."""
    found: Backend = connection.get_execution_options()[OPTION]
    return found
