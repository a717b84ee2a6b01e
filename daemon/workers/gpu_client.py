"""A worker's engine where another process owns the device: pictures go there and answers come back.

Imports no torch: a worker only reads, decodes and judges. The other end is `daemon.workers.gpu_server`.
"""

from __future__ import annotations

import os
import struct
from multiprocessing import reduction
from multiprocessing.connection import Connection

import numpy as np

from daemon.engines.base import EngineOutput
from daemon.engines.rows import Layout, SharedBatch
from trainer.images.arrays import Floats, Grey

# The whole message: how many pictures lie in the shared memory.
REQUEST = struct.Struct("i")
# Importing torch, waking a GPU and preparing every batch size takes some seconds, on a slow disk many.
_OPEN_SECONDS = 120.0


class EngineLostError(Exception):
    """The process that owns the device has ended or does not answer."""


class SharedEngine:
    """The engine of one worker; `run` returns when its pictures have come through the device."""

    def __init__(self, connection: Connection, answer_seconds: float) -> None:
        """Wait until the device is ready; raise EngineLostError if it never is."""
        self._connection = connection
        self._answer_seconds = answer_seconds
        try:
            self._await(_OPEN_SECONDS)
            self._layout: Layout = connection.recv()
            descriptor = reduction.recv_handle(connection)
        except (EOFError, OSError) as error:
            raise EngineLostError from error
        self._memory = SharedBatch(self._layout, descriptor)
        os.close(descriptor)

    def run(self, batch: Grey) -> EngineOutput:
        """Return what the network says of pictures (batch, S, S) uint8; maps only if they were asked for.

        Raises EngineLostError.
        """
        most = self._layout.batch
        rows = [self._rows(batch[start : start + most]) for start in range(0, len(batch), most)]
        return self._layout.split(np.concatenate(rows))

    def _rows(self, batch: Grey) -> Floats:
        self._memory.pictures[: len(batch)] = batch
        try:
            self._connection.send_bytes(REQUEST.pack(len(batch)))
            self._await(self._answer_seconds)
            self._connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise EngineLostError from error
        return self._memory.rows[: len(batch)].copy()  # the next request's rows will lie there

    def _await(self, seconds: float) -> None:
        if not self._connection.poll(seconds):
            raise EngineLostError
