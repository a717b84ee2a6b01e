"""Connections on which nothing is asked: they keep nobody out, and are closed in time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import uvicorn
from uvicorn.server import ServerState

from daemon.web import connections
from storage.records import Status
from tests.daemon.web.test_web import Server, _served, _stopped
from tests.support.stored_results import Store, judged

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_BEGINNINGS = {
    "nothing": b"",
    "half a request line": b"GET /resu",
    "a header that never ends": b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, engine_cache: Path) -> Iterator[Server]:
    """A server of one result."""
    folder = tmp_path_factory.mktemp("silent")
    (folder / "inbox").mkdir()
    store = Store(folder / "x.db", folder / "inbox")
    store.put([(b"a.png", judged("yes", 0.9, Status.OK))])
    started = _served(store.path, engine_cache)
    yield started
    assert _stopped(started) == 0


@pytest.mark.slow
@pytest.mark.defects(19)
@pytest.mark.parametrize("beginning", list(_BEGINNINGS))
def test_two_hundred_silent_connections_keep_nobody_out(server: Server, beginning: str) -> None:
    place = urlsplit(server.address)
    assert place.hostname is not None
    assert place.port is not None
    server.ask("/")  # with everything imported
    with contextlib.ExitStack() as opened:
        silent = [
            opened.enter_context(socket.create_connection((place.hostname, place.port))) for _ in range(200)
        ]
        for one in silent:
            with contextlib.suppress(OSError):  # closed already, for too many
                one.sendall(_BEGINNINGS[beginning])
        for _ in range(3):
            began = time.monotonic()
            answer = server.ask("/")
            took = time.monotonic() - began
            for one in silent:
                with contextlib.suppress(OSError):
                    one.sendall(b"a" if _BEGINNINGS[beginning] else b"")
            print(f"{beginning}: {took * 1000:.0f} ms")
            assert answer.status == 200
            assert took < 1.0


async def _application(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


async def _seconds_open(first: bytes, answers: int) -> float:
    """Return how long a server bears one that sends a beginning and then a byte now and then."""
    state = ServerState()
    config = uvicorn.Config(_application, lifespan="off", ws="none", log_level="critical")
    server = await asyncio.get_running_loop().create_server(
        lambda: connections.Connection(config, state, {}), "127.0.0.1", 0
    )
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(first)
        for _ in range(answers):
            await reader.readuntil(b"\r\n\r\nhi")
        began = time.monotonic()
        rest = asyncio.create_task(reader.read())
        while not rest.done():
            await asyncio.wait([rest], timeout=0.05)
            writer.write(b"a")
        assert rest.exception() or rest.result() == b""
        writer.close()
        return time.monotonic() - began


_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.defects(19)
@pytest.mark.parametrize(
    ("first", "answers"),
    [(b"", 0), (_REQUEST + b"X-A: ", 0), (_REQUEST + b"\r\n", 1), (_REQUEST + b"\r\n" + b"GET / HT", 1)],
)
def test_a_request_head_that_trickles_in_is_cut_off(
    first: bytes, answers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_HEAD_SECONDS", 0.3)

    took = asyncio.run(asyncio.wait_for(_seconds_open(first, answers), 20))

    assert took > 0.2
