"""The work of the process that owns a device: whatever pictures wait, from all workers, in one batch.

No worker waits for a fuller batch: an idle device starts at once on a single picture, and what arrives
while it computes becomes the next batch. A worker that has died is forgotten.
"""

from __future__ import annotations

import fcntl
import os
import selectors
import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Protocol

from daemon.engines.rows import Layout, SharedBatch
from daemon.workers.gpu_client import REQUEST
from trainer.images.arrays import Floats, Grey


class RowEngine(Protocol):
    """Computes batches that come in parts."""

    @property
    def layout(self) -> Layout:
        """What fits into one batch and what a row is made of."""

    def rows(self, parts: Sequence[Grey]) -> Floats:
        """Return one row per picture, valid until the next call."""


@dataclass(eq=False, slots=True)
class _Client:
    connection: Connection
    memory: SharedBatch
    waiting: int = 0  # pictures


class EngineServer:
    """Serves workers, whose connections arrive through `control`, until that is closed."""

    def __init__(self, engine: RowEngine, control: Connection, batch: int) -> None:
        """`batch` is the most pictures one worker sends at once."""
        self._engine = engine
        self._control = control
        self._layout = replace(engine.layout, batch=min(batch, engine.layout.batch))
        self._queue: deque[_Client] = deque()  # who has pictures waiting, in the order they came
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)

    def serve(self) -> None:
        """Work until the daemon closes its end."""
        while self.step():
            pass

    def step(self) -> bool:
        """Take what has arrived and compute one batch; return False when the daemon has gone."""
        for key, _ in self._selector.select(0 if self._queue else None):
            if key.data is not None:
                self._receive(key.data)
            elif not self._admit():
                return False
        self._compute()
        return True

    def _admit(self) -> bool:
        """Take a new worker's connection and answer with memory: that tells the worker that all is ready."""
        try:
            handle = reduction.recv_handle(self._control)
        except (EOFError, OSError):
            return False
        connection = Connection(handle)
        descriptor = os.memfd_create("bt-batch", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, self._layout.bytes)
            # Memory that a worker could make shorter would kill this process.
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
            client = _Client(connection, SharedBatch(self._layout, descriptor))
            connection.send(self._layout)
            reduction.send_handle(connection, descriptor, 0)
            self._selector.register(connection, selectors.EVENT_READ, client)
        except OSError:  # the worker has died meanwhile
            connection.close()
        finally:
            os.close(descriptor)
        return True

    def _receive(self, client: _Client) -> None:
        try:
            (client.waiting,) = REQUEST.unpack(client.connection.recv_bytes(REQUEST.size))
        except (EOFError, OSError, struct.error):
            self._forget(client)
            return
        if not 0 < client.waiting <= self._layout.batch:  # no worker asks that; it would block the others
            self._forget(client)
            return
        self._queue.append(client)

    def _compute(self) -> None:
        """Compute as many whole requests as one batch holds, in the order they came."""
        chosen: list[_Client] = []
        room = self._engine.layout.batch
        while self._queue and self._queue[0].waiting <= room:
            chosen.append(self._queue.popleft())
            room -= chosen[-1].waiting
        if not chosen:
            return
        rows = self._engine.rows([client.memory.pictures[: client.waiting] for client in chosen])
        start = 0
        for client in chosen:
            client.memory.rows[: client.waiting] = rows[start : start + client.waiting]
            start += client.waiting
            self._answer(client)

    def _answer(self, client: _Client) -> None:
        try:
            client.connection.send_bytes(b"\0")
        except OSError:
            self._forget(client)

    def _forget(self, client: _Client) -> None:
        self._selector.unregister(client.connection)
        client.connection.close()
        if client in self._queue:
            self._queue.remove(client)
