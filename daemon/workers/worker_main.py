"""Entry point of a worker process: wait for its setup with everything imported, then serve tasks.

    python -m daemon.workers.worker_main DESCRIPTOR DESCRIPTOR ENGINE

`daemon.workers.pool` starts it and talks to it through a socket (the first descriptor): tasks in, pickled,
for the daemon is trusted; outcomes out as `daemon.workers.message_codec`, for a worker is not. The second is
memory in which it shows what it works on. It is started before the daemon knows what to tell it, so that
both import what they need at the same time.
"""

from __future__ import annotations

import contextlib
import importlib
import mmap
import os
import sys
from collections.abc import Sequence
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from daemon.frames import send_frame
from daemon.process import die_with_the_parent, leave_stopping_to_the_parent
from daemon.workers import message_codec
from daemon.workers.messages import ENGINE_LOST, PROGRESS, Known

if TYPE_CHECKING:
    from daemon.engines.base import Engine
    from daemon.workers.messages import Task, WorkerSetup
    from daemon.workers.worker import Worker

# The module of the engine that is likely to be opened, imported while the daemon imports its storage.
_ENGINE_MODULES = {
    "openvino": "daemon.engines.openvino_engine",
    "torch": "daemon.engines.torch_engine",
    "shared": "daemon.workers.gpu_client",
}


def main(arguments: Sequence[str]) -> None:
    """Serve tasks until the parent closes its end."""
    leave_stopping_to_the_parent()
    die_with_the_parent()
    connection = Connection(int(arguments[0]))
    progress = mmap.mmap(int(arguments[1]), PROGRESS.size)

    from daemon.workers.gpu_client import EngineLostError
    from trainer.images.silence import silence_c_libraries

    for name in ("daemon.workers.worker", _ENGINE_MODULES[arguments[2]]):
        with contextlib.suppress(ImportError):  # whether that matters is seen when the engine is opened
            importlib.import_module(name)
    try:
        setup: WorkerSetup = connection.recv()
        silence_c_libraries()
        worker = _opened(connection, setup, progress)
        send_frame(connection.fileno(), message_codec.READY)
        while True:
            message: Known | list[Task] = connection.recv()
            if isinstance(message, Known):
                worker.remember(message)
            else:
                send_frame(connection.fileno(), message_codec.encode(worker.work(message)))
    except EngineLostError:
        os._exit(ENGINE_LOST)  # at once: the parent sees the connection close and asks how this ended
    except (EOFError, OSError):
        return


def _opened(connection: Connection, setup: WorkerSetup, progress: mmap.mmap) -> Worker:
    """Open the engine; if it cannot be opened tell the daemon why, and end with 1."""
    from daemon.workers.gpu_client import EngineLostError
    from daemon.workers.worker import Worker

    try:
        return Worker(setup, progress, _shared_engine(connection, setup) if setup.shared else None)
    except (EngineLostError, EOFError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the daemon says it in one line
        send_frame(connection.fileno(), message_codec.encode_unable(error))
        sys.exit(1)


def _shared_engine(connection: Connection, setup: WorkerSetup) -> Engine:
    """Take the connection to the process that owns the device; it follows the setup."""
    from daemon.workers.gpu_client import SharedEngine

    return SharedEngine(Connection(reduction.recv_handle(connection)), setup.answer_seconds)


if __name__ == "__main__":
    main(sys.argv[1:])
