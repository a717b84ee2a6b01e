"""Schema revisions: which database this version can read, and the words for one that it cannot."""

from __future__ import annotations

from config.text import printable
from storage.database_errors import DatabaseMissingError, DatabaseTooNewError, DatabaseTooOldError
from storage.schema import REVISION


def check_revision(stored: str | None, place: str) -> None:
    """Raise DatabaseTooNewError for the revision of a newer version."""
    # Revisions are numbers with leading zeros, so they compare as text.
    if stored is not None and stored > REVISION:
        raise DatabaseTooNewError(
            f"the database {printable(place)} has schema {printable(stored)}, "
            f"newer than this version's {REVISION}",
            hint="upgrade bt-daemon",
        )


def let_in(stored: str | None, place: str) -> None:
    """Let a reader in only if the tables are the ones this version knows."""
    if stored == REVISION:
        return
    check_revision(stored, place)
    if stored is None:
        raise DatabaseMissingError(
            f"the database {printable(place)} is still empty", hint="start `bt-daemon watch DIR` first"
        )
    raise DatabaseTooOldError(
        f"the database {printable(place)} has schema {printable(stored)}, this version needs {REVISION}",
        hint="run `bt-daemon db migrate`, or restart the daemon, which does it",
    )
