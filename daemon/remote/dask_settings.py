"""Dask as the head and its workers use it: connections, heartbeats and membership, nothing else of it."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import dask
from distributed.security import Security

if TYPE_CHECKING:
    from daemon.remote.head_address import HeadAddress

# A worker sends a heartbeat every half second, of 50 to 199 every two. One that was silent for so long is
# gone: a cut link is noticed within 15 s.
SILENT_SECONDS = 12.0
# TCP's own patience: keep-alive and TCP_USER_TIMEOUT.
_TCP_TIMEOUT = "15s"
_CONNECT_TIMEOUT = "10s"


def settle_dask() -> None:
    """Set Dask up for this process; what a user has configured for other uses of it does not matter here."""
    dask.config.set(
        {
            "distributed.scheduler.worker-ttl": None,  # `Head` looks after it, at a rate of its own
            "distributed.scheduler.work-stealing": False,
            "distributed.scheduler.active-memory-manager.start": False,
            "distributed.scheduler.preload": [],
            "distributed.scheduler.idle-timeout": None,
            "distributed.scheduler.no-workers-timeout": None,
            "distributed.scheduler.http.routes": [],
            "distributed.worker.http.routes": [],
            "distributed.worker.preload": [],
            "distributed.worker.profile.enabled": False,
            "distributed.worker.lifetime.duration": None,
            "distributed.comm.retry.count": 0,
            "distributed.comm.timeouts.connect": _CONNECT_TIMEOUT,
            "distributed.comm.timeouts.tcp": _TCP_TIMEOUT,
            "distributed.comm.compression": None,
            "distributed.admin.tick.limit": "60s",
        }
    )
    # Whatever it has to say is said in one line by us.
    warnings.filterwarnings("ignore", module=r"distributed(\..*)?")
    for name in (
        "distributed",
        "distributed.worker",
        "distributed.scheduler",
        "tornado",
        "tornado.application",
        "asyncio",
        "bokeh",
    ):
        logger = logging.getLogger(name)
        logger.handlers = [logging.NullHandler()]
        logger.propagate = False
        logger.setLevel(logging.CRITICAL + 1)


def security_of(address: HeadAddress, key: str) -> Security | None:
    """Return the mutual TLS of an encrypted address: one file has certificate and key, for both sides."""
    if not address.encrypted:
        return None
    return Security(
        require_encryption=True,
        tls_ca_file=key,
        tls_scheduler_cert=key, tls_scheduler_key=key,
        tls_worker_cert=key, tls_worker_key=key,
        tls_client_cert=key, tls_client_key=key,
    )  # fmt: skip
