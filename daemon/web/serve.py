"""The socket that is listened on, and the loop that serves it until Ctrl-C."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from config.errors import BtError, UsageError
from config.text import printable

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to


@contextlib.contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """Open the socket; raises UsageError for an address that is not ours, BtError for a port in use."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise UsageError(f"{printable(host)} is no address to listen on ({error.strerror})") from None
    with socket.socket(family, kind, protocol) as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind(place)
            door.listen()
        except OSError as error:
            raise BtError(
                f"cannot listen on {printable(host)} port {port} ({error.strerror})",
                hint="give another --port; 0 takes a free one",
            ) from None
        yield door


def own_names(host: str) -> frozenset[str]:
    """Return the names under which a browser may ask a server that listens on `host`."""
    everywhere = {socket.gethostname().lower()} if host in _EVERYWHERE else set()
    return frozenset({"127.0.0.1", "localhost", "::1", host.lower(), *everywhere})


def address(host: str, door: socket.socket, token: str | None) -> str:
    """Return what to open in a browser."""
    shown = socket.gethostname() if host in _EVERYWHERE else host
    bracketed = f"[{shown}]" if ":" in shown else shown
    return f"http://{bracketed}:{door.getsockname()[1]}/" + (f"?token={token}" if token else "")


def serve(app: ASGIApp, door: socket.socket) -> None:
    """Answer requests until interrupted; requests being answered are finished."""
    import uvicorn

    from daemon.web.connections import Connection

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        http=Connection,
        timeout_graceful_shutdown=2,
        lifespan="off",
        ws="none",
    )
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how it is meant to end
        uvicorn.Server(config).run(sockets=[door])
