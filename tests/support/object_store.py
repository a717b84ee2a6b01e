"""A server of S3 and SQS for tests: moto's, on a free port, in a process of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from trainer.images.phantom import phantom

# As moto takes any; AWS's own names, so that the code under test finds them where users have theirs.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_REGION": "us-east-1"}


def missing_package() -> str:
    """Return what a test of object stores lacks, "" if nothing."""
    packages = ("obstore", "botocore", "moto", "flask")
    return next((name for name in packages if importlib.util.find_spec(name) is None), "")


@dataclass(frozen=True, slots=True)
class ObjectServer:
    """Where it listens."""

    port: int

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> Mapping[str, str]:
        """What leads every program there."""
        return {**CREDENTIALS, "AWS_ENDPOINT_URL": self.url}

    def client(self, service: str = "s3") -> Any:
        """Return botocore's client of it: what other programs do to a bucket or a queue."""
        return _client(service, self.url)


@cache
def _client(service: str, url: str) -> Any:
    """Return a client of an address; to make one reads the service's whole description, 0.2 s of CPU."""
    import botocore.session

    return botocore.session.Session().create_client(
        service,
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="tests",
        aws_secret_access_key="tests",
    )


@contextmanager
def object_server(port: int = 0, *, asks_who: bool = False) -> Iterator[ObjectServer]:
    """Run a server that forgets everything at its end; at `port`, or a free one.

    With `asks_who` it knows nobody, and denies every request.
    """
    port = port or free_port()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environ
        | {"PYTHONWARNINGS": "ignore"}
        | ({"INITIAL_NO_AUTH_ACTION_COUNT": "0"} if asks_who else {}),
    )
    try:
        _await_port(port, process)
        yield ObjectServer(port)
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"moto ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("moto does not listen")


class Gate:
    """A way to a server that can be shut: then nobody answers at its port, and open connections end."""

    def __init__(self, server: ObjectServer) -> None:
        self._server = server
        self.port = free_port()
        self._listener: socket.socket | None = None
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.open()

    @property
    def url(self) -> str:
        """The address of the server through the gate."""
        return f"http://127.0.0.1:{self.port}"

    def open(self) -> None:
        """Let connections through."""
        listener = socket.create_server(("127.0.0.1", self.port))
        self._listener = listener
        self._start(self._accept, listener)

    def shut(self) -> None:
        """Let nothing through, and end what is open."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open.clear()

    def close(self) -> None:
        """End the threads."""
        self.shut()
        for thread in self._threads:
            thread.join(5)

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True, name="gate")
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                inside, _ = listener.accept()
                outside = socket.create_connection(("127.0.0.1", self._server.port))
                self._open += [inside, outside]
                self._start(_pump, inside, outside)
                self._start(_pump, outside, inside)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def picture_bytes(number: int) -> bytes:
    """Return a small PNG of a drawn head that no other number gives."""
    picture = phantom(1, lesion=True, size=64, label=False)
    picture.putpixel((number % 64, number // 64 % 64), 200)
    made = io.BytesIO()
    picture.save(made, "PNG")
    return made.getvalue()
