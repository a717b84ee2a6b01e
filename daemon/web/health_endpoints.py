"""Health and metrics endpoints: `/healthz`, `/readyz`, `/metrics`; they answer when the daemon is dead.

`/healthz` is 200 while a daemon's loop turns, however well it works: to start a degraded one again would help
nobody. `/readyz` is 200 while it is healthy, as `bt-daemon status --check` is 0. Both say why in lines that
name nothing, so anybody may ask.
"""

from __future__ import annotations

import os

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from config.errors import DatabaseError, UsageError
from daemon.views.daemon_status import DaemonStatus
from daemon.views.health_check import UNREADABLE, Health, Word, health
from daemon.web.daemon_metrics import metrics
from daemon.web.exposition import CONTENT_TYPE, exposition
from daemon.web.html import site_of
from daemon.web.site import Site
from storage.database import database_path


def alive(request: Request) -> Response:
    """Whether a daemon's loop turns."""
    found = _seen(site_of(request))[1]
    return PlainTextResponse(found.anonymous(), 200 if found.alive else 503)


def ready(request: Request) -> Response:
    """Whether the daemon is healthy."""
    found = _seen(site_of(request))[1]
    return PlainTextResponse(found.anonymous(), 200 if found.word is Word.HEALTHY else 503)


def scrape(request: Request) -> Response:
    """Everything that can be counted, as Prometheus reads it."""
    site = site_of(request)
    told = metrics(*_seen(site), _disk(site.database))
    return Response(exposition(told), media_type=CONTENT_TYPE)


def _seen(site: Site) -> tuple[DaemonStatus | None, Health]:
    """Return how the daemon is; nothing but that where the database cannot be read."""
    try:
        status = site.status_now()
    except DatabaseError:
        return None, UNREADABLE
    return status, health(status, site.zone)


def _disk(database: str) -> tuple[int, int] | None:
    """Return how many bytes are free for a daemon without rights, and in all, where the file lies.

    None for a database on a server: its disk is not seen from here.
    """
    try:
        told = os.statvfs(database_path(database).parent)
    except (OSError, UsageError):
        return None
    return told.f_bavail * told.f_frsize, told.f_blocks * told.f_frsize
