"""The worker's side of Dask: a thread in which it asks the head, joins it, and passes messages on.

A thread, because the worker processes of this machine belong to the main one: the kernel ends them with the
thread that started them.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import secrets
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from distributed import Worker
from distributed.core import Status, rpc

from daemon.remote.dask_settings import security_of, settle_dask

if TYPE_CHECKING:
    from types import TracebackType

    from daemon.remote.head_address import HeadAddress

_Result = TypeVar("_Result")
# A question that takes longer has no answer; looking at a network folder may take some seconds.
_ANSWER_SECONDS = 60.0
_CLOSE_SECONDS = 10.0
_POLL_SECONDS = 0.2
_PORTS = 1 << 16


class HeadLostError(Exception):
    """The head cannot be reached, or does not answer."""


class HeadLink:
    """The connection to one head; a context manager. What the head sends comes out of `received`."""

    def __init__(self, head: HeadAddress, key: str, wake: Callable[[], None]) -> None:
        """`wake` is called when there is something to receive."""
        self._head, self._key, self._wake = head, key, wake
        self._received: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
        self._worker: Worker | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="bt-head", daemon=True)

    def __enter__(self) -> HeadLink:
        settle_dask()
        self._security = security_of(self._head, self._key)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(HeadLostError):
            self._call(self._leave(), lambda: False, _CLOSE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def ask(self, question: str, stopped: Callable[[], bool], **values: Any) -> Any:
        """Return the head's answer to a question (`Head.greet` and the others).

        Raises HeadLostError, also when `stopped` says so.
        """
        return self._call(self._ask(question, values), stopped, _ANSWER_SECONDS)

    async def _ask(self, question: str, values: dict[str, Any]) -> Any:
        arguments = {} if self._security is None else self._security.get_connection_args("worker")
        head = rpc(str(self._head), connection_args=arguments)
        try:
            return await getattr(head, question)(**values)
        finally:
            await head.close_rpc()

    def join(self, ticket: str, lanes: int, stopped: Callable[[], bool]) -> None:
        """Join the head as whom it has let in; raise HeadLostError."""
        while not self._received.empty():
            self._received.get_nowait()  # from before: it is the head's again
        self._call(self._join(ticket, lanes), stopped, _ANSWER_SECONDS)

    async def _join(self, ticket: str, lanes: int) -> None:
        # What Dask keeps in files of its own is nothing here.
        self._folder = tempfile.mkdtemp(prefix="bt-daemon-worker-")
        self._worker = worker = Worker(
            str(self._head),
            nthreads=lanes,
            name=ticket,
            host="127.0.0.1",
            contact_address=self._name_here(),
            local_directory=self._folder,
            memory_limit=0,
            security=self._security,
            dashboard=False,
            dashboard_address="127.0.0.1:0",
            nanny=None,
        )
        worker.stream_handlers["bt_batch"] = self._take
        await worker
        self._ended = asyncio.ensure_future(worker.finished())
        self._ended.add_done_callback(lambda _: self._wake())

    def _name_here(self) -> str:
        """Return an address for the head to tell this worker from others by.

        Nobody connects to it: all messages take the connection that the worker has opened, so that it listens
        to nothing but its own loopback, where Dask insists on it.
        """
        family, kind, _, _, place = socket.getaddrinfo(
            self._head.host, self._head.port, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind) as probe:
            probe.connect(place)  # sends nothing: the kernel picks the way
            host = probe.getsockname()[0]
        return str(replace(self._head, host=host, port=secrets.randbelow(_PORTS - 1) + 1))

    def _take(self, number: int, tasks: bytes) -> None:
        self._received.put((number, tasks))
        self._wake()

    @property
    def joined(self) -> bool:
        """Whether the head has us among its workers, as far as is known here."""
        return self._worker is not None and self._worker.status == Status.running

    def received(self) -> list[tuple[int, bytes]]:
        """Return the batches that have come, number and tasks each."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._received.get_nowait())
        return found

    def answer(self, number: int, answer: bytes) -> None:
        """Send an answer; one that does not arrive is asked for again by the head."""
        self._tell({"op": "bt_answer", "number": number, "answer": answer})

    def leaving(self) -> None:
        """Tell the head to send nothing any more."""
        self._tell({"op": "bt_leaving"})

    def _tell(self, message: dict[str, Any]) -> None:
        if self._worker is not None:
            self._loop.call_soon_threadsafe(self._worker.batched_send, message)

    def leave(self) -> None:
        """Leave the head when what was told has been sent."""
        with contextlib.suppress(HeadLostError):
            self._call(self._leave(), lambda: False, _CLOSE_SECONDS)

    async def _leave(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.close(timeout=2, executor_wait=False, reason="bt-daemon-leaves")
            shutil.rmtree(self._folder, ignore_errors=True)

    def _call(
        self, work: Coroutine[Any, Any, _Result], stopped: Callable[[], bool], seconds: float
    ) -> _Result:
        future: Future[_Result] = asyncio.run_coroutine_threadsafe(
            asyncio.wait_for(work, seconds), self._loop
        )
        while True:
            try:
                return future.result(_POLL_SECONDS)
            except TimeoutError as error:
                if future.done():  # by its own deadline, or in the moment that this wait ended
                    if not future.cancelled() and future.exception() is error:
                        raise HeadLostError("it does not answer") from error
                elif stopped():
                    future.cancel()
                    raise HeadLostError("stopped") from None
            except Exception as error:
                raise HeadLostError(str(error) or type(error).__name__) from error
