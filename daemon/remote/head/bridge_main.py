"""The bridge: a process of the daemon in which Dask runs, so that the writer's own loop stays as it is.

    python -m daemon.remote.head.bridge_main DESCRIPTOR

`daemon.remote.head.remote_lanes` starts it and talks to it through a socket (`daemon.remote.wire`): batches
in, workers' answers out, untouched. It ends when the daemon closes its end or dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import socket
import struct
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from daemon.frames import LENGTH
from daemon.process import die_with_the_parent, leave_stopping_to_the_parent
from daemon.remote import wire

if TYPE_CHECKING:
    from daemon.remote.head.scheduler import Head

_ALIVE_SECONDS = 1.0
_READY = struct.calcsize("!I")


def main(arguments: Sequence[str]) -> int:
    """Serve until the daemon closes its end; return 1 if nothing can be served."""
    leave_stopping_to_the_parent()
    die_with_the_parent()
    from daemon.remote.dask_settings import settle_dask

    settle_dask()
    return asyncio.run(_serve(socket.socket(fileno=int(arguments[0]))))


async def _serve(control: socket.socket) -> int:
    from daemon.remote.head.scheduler import Head

    reader, writer = await asyncio.open_connection(sock=control)

    def tell(message: bytes) -> None:
        writer.write(LENGTH.pack(len(message)) + message)

    try:
        first = await _message(reader)
        head = Head(pickle.loads(first[1:]), tell)  # noqa: S301 - the daemon is trusted
        await head.start()
    except asyncio.IncompleteReadError:
        return 0
    except Exception as error:  # noqa: BLE001 - whatever it is, the daemon says it in one line
        tell(wire.pack(wire.ENDED, _one_line(error)))
        with contextlib.suppress(OSError):
            await writer.drain()
        return 1
    watching = asyncio.create_task(_look_after(head))
    try:
        while True:
            head.hear(await _message(reader))
    except (asyncio.IncompleteReadError, OSError):
        watching.cancel()
        await head.close()
        return 0


async def _message(reader: asyncio.StreamReader) -> bytes:
    (length,) = LENGTH.unpack(await reader.readexactly(_READY))
    return await reader.readexactly(length)


async def _look_after(head: Head) -> None:
    while True:
        await head.look_after()
        await asyncio.sleep(_ALIVE_SECONDS)


def _one_line(error: BaseException) -> str:
    while error.__cause__ is not None:  # Dask wraps what happened
        error = error.__cause__
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
