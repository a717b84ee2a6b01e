"""Open the lanes that the settings ask for: worker processes of this machine, workers that join, or both."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from config.errors import UsageError
from config.extras import installed, not_installed
from config.store_url import StoreUrl
from daemon.workers.pool import WorkerPool
from daemon.workers.setup import NO_LANES, likely_engine, worker_count

if TYPE_CHECKING:
    from config.settings import Settings
    from daemon.workers.lanes import Lanes


@contextmanager
def open_lanes(
    settings: Settings, roots: Sequence[Path | StoreUrl], logger: logging.Logger
) -> Iterator[Lanes]:
    """Start the lanes, which import what they need meanwhile; close them at the end."""
    if settings.lanes == NO_LANES and not settings.workers:
        raise UsageError("--lanes none leaves nobody to judge", hint="give --workers tcp://:8786 too")
    with contextlib.closing(_lanes(settings, roots, logger)) as lanes:
        yield lanes


def _lanes(settings: Settings, roots: Sequence[Path | StoreUrl], logger: logging.Logger) -> Lanes:
    if not settings.workers:
        return _local(settings, logger)
    for package in ("distributed", "cryptography"):
        if not installed(package):  # the bridge would miss it, a process that is started later
            raise not_installed(ModuleNotFoundError(name=package))
    from daemon.remote.head_address import head_address
    from daemon.remote.workers_key import check_key

    key = check_key(settings.workers_key)
    address = head_address(settings.workers, key, joining=False)
    from daemon.remote.head.mixed_lanes import MixedLanes
    from daemon.remote.head.remote_lanes import MeetingPoint, RemoteLanes

    remote = RemoteLanes(
        MeetingPoint(address, key, [os.fsencode(root) for root in roots]),
        decode_seconds=settings.decode_seconds,
        batch=max(1, settings.batch),
        logger=logger,
    )
    return remote if settings.lanes == NO_LANES else MixedLanes(_local(settings, logger), remote)


def _local(settings: Settings, logger: logging.Logger) -> WorkerPool:
    count, engine = worker_count(settings), likely_engine(settings)
    return WorkerPool(count, decode_seconds=settings.decode_seconds, engine=engine, logger=logger)
