"""Site: the database, models and pictures that pages are made from."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import tzinfo
from typing import TYPE_CHECKING

from daemon.views.daemon_status import DaemonStatus, daemon_status
from storage.database import database_path, open_reader
from storage.database_errors import DatabaseMissingError
from storage.lock import lock_holder
from storage.queries.status import status_snapshot

if TYPE_CHECKING:
    import sqlalchemy as sa

    from daemon.web.gallery import Gallery
    from daemon.web.pages.render import ModelBook
    from storage.queries.status import StatusSnapshot


@dataclass(frozen=True, slots=True)
class Site:
    """One database as its pages see it; every request opens it anew, for reading only."""

    database: str  # file or URL
    zone: tzinfo
    book: ModelBook
    gallery: Gallery
    quiet_us: int  # a series to which nothing came for so long is complete

    @contextmanager
    def reader(self) -> Iterator[sa.Connection]:
        """Open the database; raises StorageError."""
        connection = open_reader(self.database)
        try:
            yield connection
        finally:
            connection.close()

    def status(self, connection: sa.Connection) -> DaemonStatus:
        """Return how the daemon on this database is."""
        return self._status(status_snapshot(connection, _now_us()))

    def status_now(self) -> DaemonStatus:
        """Return the same, without a database too; raises StorageError for one that is broken."""
        try:
            with self.reader() as connection:
                return self.status(connection)
        except DatabaseMissingError:
            return self._status(None)

    def _status(self, stored: StatusSnapshot | None) -> DaemonStatus:
        path = database_path(self.database).absolute()
        return daemon_status(stored, lock_holder(path), str(path), _now_us())


def _now_us() -> int:
    return time.time_ns() // 1000
