"""Compose a worker that joins the daemon of another machine."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.clock import SystemClock
from daemon.log import set_up_log
from daemon.remote.head_address import head_address
from daemon.remote.workers_key import check_key
from daemon.service.signals import StopSignal, Waker
from daemon.workers.pool import WorkerPool
from daemon.workers.setup import likely_engine, worker_count

if TYPE_CHECKING:
    from config.options import Invocation


def join(invocation: Invocation, given: str) -> int:
    """Judge what the daemon at the address sends, until stopped or alone for too long; return 0.

    Raises JoinError when it will never let this machine in, or never came.
    """
    settings = invocation.settings
    logger = set_up_log(invocation.verbosity, settings.log_format, file=settings.log_file)
    key = check_key(settings.workers_key)
    head = head_address(given, key, joining=True)
    from daemon.remote.absence import Absence
    from daemon.remote.node import Node
    from daemon.remote.node_setup import ready_for

    prepare = functools.partial(ready_for, device=settings.device, cache=Path(settings.cache), logger=logger)
    waker, count, clock = Waker(), worker_count(settings), SystemClock()
    absence = Absence(settings.leave_after_seconds, clock.monotonic)
    other_lanes = True
    with StopSignal(waker) as stop:
        while other_lanes and not stop.requested:
            # For how long a file may take the head tells later: until then nothing is judged.
            with WorkerPool(
                count, decode_seconds=settings.decode_seconds, engine=likely_engine(settings), logger=logger
            ) as lanes:
                node = Node(head, key, lanes, count, prepare, stop, waker, clock, logger, absence)
                other_lanes = not node.run()
    waker.close()
    logger.info("left %s", head)
    return 0
