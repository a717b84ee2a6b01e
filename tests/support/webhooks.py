"""A real HTTP receiver on this machine that takes, refuses, or never answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Webhooks:
    """What came; `answer` is the status to give, 0: none until `released`, -1: the connection is closed."""

    port: int = 0
    answer: int = 200
    asked: list[tuple[str, str]] = field(default_factory=list)  # method and path
    bodies: list[bytes] = field(default_factory=list)  # of what was taken
    headers: list[dict[str, str]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?key=secret"

    @property
    def told(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.bodies]

    @property
    def events(self) -> list[str]:
        return [one["event"] for one in self.told]


@contextmanager
def webhooks(port: int = 0) -> Iterator[Webhooks]:
    """Serve until the block ends."""
    state = Webhooks()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._take()

        def do_POST(self) -> None:
            self._take()

        def _take(self) -> None:
            state.asked.append((self.command, self.path))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = state.answer
            if answer == 0:
                state.released.wait(60)
            if answer <= 0:
                self.close_connection = True
                return
            if 200 <= answer < 300 and body:
                state.headers.append(dict(self.headers))
                state.bodies.append(body)
            self.send_response(answer)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield state
    finally:
        state.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
