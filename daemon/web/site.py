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
from storage.lock import lock_holder
from storage.queries.status import status_snapshot

if TYPE_CHECKING:
    import sqlalchemy as sa

    from daemon.web.gallery import Gallery
    from daemon.web.pages.render import ModelBook


@dataclass(frozen=True, slots=True)
class Site:
    """One database as its pages see it; every request opens it anew, for reading only."""

    database: str  # file or URL
    zone: tzinfo
    book: ModelBook
    gallery: Gallery

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
        now_us = time.time_ns() // 1000
        path = database_path(self.database).absolute()
        return daemon_status(status_snapshot(connection, now_us), lock_holder(path), str(path), now_us)
