"""Site: the database, models and pictures that pages are made from."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import tzinfo
from typing import TYPE_CHECKING

from daemon.heatmaps.model_lookup import ModelsAtHand
from daemon.heatmaps.renderers import drawing
from daemon.views.daemon_status import DaemonStatus, daemon_status
from daemon.web.gallery import Gallery
from daemon.web.pages.render import ModelBook
from daemon.web.reviewing.desk import ReviewDesk
from daemon.web.uploading.landing import Landing
from daemon.web.viewer.endpoints import Viewer
from daemon.web.viewer.slice_reader import slice_reader
from storage.database import open_reader, shown_place
from storage.database_errors import DatabaseMissingError
from storage.lock import lock_holder
from storage.queries.status import status_snapshot

if TYPE_CHECKING:
    import sqlalchemy as sa

    from config.settings import Settings
    from storage.queries.status import StatusSnapshot


@dataclass(frozen=True, slots=True)
class Writing:
    """What people can write through the page."""

    reviews: ReviewDesk
    uploads: Landing


@dataclass(frozen=True, slots=True)
class Site:
    """One database as its pages see it; every request opens it anew, for reading only."""

    database: str  # file or URL, which may hold a password: never shown as it is
    zone: tzinfo
    book: ModelBook
    gallery: Gallery
    quiet_us: int  # a series to which nothing came for so long is complete
    viewer: Viewer
    writing: Writing | None = None  # None: nobody can

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
        place = shown_place(self.database)
        return daemon_status(stored, lock_holder(self.database), place, _now_us())


@contextmanager
def opened_site(settings: Settings, zone: tzinfo, *, writing: bool = False) -> Iterator[Site]:
    """Return the site of a database, with the processes that draw and read for it until the end."""
    models = ModelsAtHand(settings)
    with drawing(models, settings) as artists, slice_reader(settings) as slices:
        gallery = Gallery(artists)
        viewer = Viewer(models, slices, gallery.heat)
        quiet_us = int(settings.series_quiet_seconds * 1e6)
        book = ModelBook(models)
        door = Writing(ReviewDesk(settings.db, book), Landing(settings)) if writing else None
        yield Site(settings.db, zone, book, gallery, quiet_us, viewer, door)


def _now_us() -> int:
    return time.time_ns() // 1000
