"""Messages between the daemon, its bridge and workers elsewhere: frames of one byte and packed values."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from daemon.frames import GarbledError
from daemon.workers.messages import Task

# From the daemon to the bridge.
SETUP = b"S"  # pickled BridgeSetup: the daemon is trusted
BATCH = b"B"  # number, address of the worker, tasks
DROP = b"D"  # address of a worker that hangs
# From the bridge to the daemon.
LISTENING = b"L"  # the address where workers may join
JOINED = b"J"  # Joined
LEAVING = b"F"  # address of a worker that finishes what it has
LEFT = b"G"  # address of the worker
ANSWER = b"A"  # number, then what `daemon.workers.message_codec` made of the outcomes
REFUSED = b"R"  # Refused
ALIVE = b"H"  # address -> seconds since it was last heard of
ENDED = b"E"  # why the bridge ends
# A whole batch's answer and a byte.
MOST_BYTES = (4 << 20) + 64
_NUMBER = struct.Struct("!Q")
_Message = TypeVar("_Message")
_TASKS = msgspec.msgpack.Decoder(list[tuple[int, bytes, int, int, int]])


class Joined(msgspec.Struct, frozen=True):
    """A worker that has joined."""

    address: str
    name: str
    lanes: int


class Refused(msgspec.Struct, frozen=True):
    """A worker that was refused."""

    name: str
    why: str


class PackedBatch(msgspec.Struct, frozen=True, array_like=True):
    """A batch for one worker."""

    number: int
    address: str
    tasks: bytes


def pack(kind: bytes, message: object) -> bytes:
    """Return a message of one kind."""
    return kind + msgspec.msgpack.encode(message)


def unpack(message: bytes, kind: type[_Message]) -> _Message:
    """Return what `pack` packed; raise GarbledError for anything else."""
    try:
        return msgspec.msgpack.decode(memoryview(message)[1:], type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise GarbledError(str(error)) from error


def pack_answer(number: int, answer: bytes) -> bytes:
    """Return the message that carries a worker's answer."""
    return ANSWER + _NUMBER.pack(number) + answer


def unpack_answer(message: bytes) -> tuple[int, bytes]:
    """Return number and answer."""
    if len(message) <= _NUMBER.size:
        raise GarbledError("no answer")
    (number,) = _NUMBER.unpack_from(message, 1)
    return number, message[1 + _NUMBER.size :]


def pack_tasks(tasks: Sequence[Task]) -> bytes:
    """Return tasks as they travel to a worker: values only, nothing that could be run."""
    rows: list[Any] = [(one.file_id, one.path, one.size, one.mtime_ns, one.inode) for one in tasks]
    return msgspec.msgpack.encode(rows)


def unpack_tasks(packed: bytes) -> list[Task]:
    """Return the tasks; raise GarbledError if they are none."""
    try:
        return [Task(*row) for row in _TASKS.decode(packed)]
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise GarbledError(str(error)) from error
