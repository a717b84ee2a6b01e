"""Understand the options of `bt-daemon listen`; refuse to stand open to a network for anybody."""

from __future__ import annotations

import ipaddress
import logging
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config import parse
from config.errors import UsageError
from config.settings import Settings
from config.text import printable
from daemon.listen.callers import Callers, checked_title, parse_caller
from daemon.listen.tls import server_context


@dataclass(frozen=True, slots=True)
class Listening:
    """Where and for whom to listen, and within which limits."""

    inbox: Path
    address: tuple[Any, ...]  # of the socket, numeric
    title: str
    callers: Callers
    tls: ssl.SSLContext | None
    max_associations: int
    max_bytes: int  # of one file
    min_free: int  # bytes that stay free on the disk
    any_modality: bool

    @property
    def asks_for_certificates(self) -> bool:
        """Whether callers have to show who they are."""
        return self.tls is not None and self.tls.verify_mode is ssl.CERT_REQUIRED


def understood(inbox: Path, settings: Settings, options: Mapping[str, Any], log: logging.Logger) -> Listening:
    """Return what the options mean; raise UsageError for what cannot be meant or is not safe.

    `options` are those of the command by their names: host, port, aet, allow, tls_cert, tls_key, tls_ca,
    max_associations, min_free.
    """
    try:
        min_free = parse.byte_size(options["min_free"])
    except UsageError as error:
        raise UsageError(f"--min-free: {error.what}", hint=error.hint) from None
    found = Listening(
        inbox=inbox,
        address=_resolved(options["host"], options["port"]),
        title=checked_title(options["aet"], "--aet"),
        callers=Callers(map(parse_caller, options["allow"])),
        tls=server_context(options["tls_cert"], options["tls_key"], options["tls_ca"]),
        max_associations=options["max_associations"],
        max_bytes=settings.max_bytes,
        min_free=min_free,
        any_modality=settings.any_modality,
    )
    _check_open(found, log)
    return found


def _resolved(host: str, port: int) -> tuple[Any, ...]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise UsageError(f"{printable(host)} is no address to listen on ({error.strerror})") from None
    return found[0][4]


def _check_open(found: Listening, log: logging.Logger) -> None:
    """Refuse to take whatever a whole network sends: every image costs disk and time, and makes a row."""
    host = str(found.address[0])
    if ipaddress.ip_address(host.partition("%")[0]).is_loopback or found.asks_for_certificates:
        return
    if not found.callers.entries:
        raise UsageError(
            f"on {host} everybody in the network could send images here",
            hint="say who may: --allow MRI1@10.0.0.5, a network as --allow 10.0.0.0/24, or --tls-ca FILE",
        )
    if found.callers.by_title_only:
        log.warning(
            "an AE title alone proves nothing: anybody can call by it; --allow TITLE@ADDRESS is better"
        )
