"""Messages between the service and its worker processes. Imports nothing slow: the daemon's start waits."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from daemon.engines.manifest import PreparedEngine
    from trainer.images.picture import Limits

# Memory shared by the daemon and a worker: number of the task being worked on within its batch and since
# when, monotonic nanoseconds. Written without a message, so it costs nothing and shows a hang.
PROGRESS = struct.Struct("qq")
NO_TASK = -1
# How a worker ends when the process that owns the device is gone or hangs (EX_TEMPFAIL of sysexits.h): no
# file is to blame.
ENGINE_LOST = 75
# What the process that owns a device tells: the first byte of a message, before a line of text.
REMARK = b"R"
ENDED = b"E"


@dataclass(frozen=True, slots=True)
class Task:
    """One file to judge, as the ledger saw it."""

    file_id: int
    path: bytes  # absolute
    size: int
    mtime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """Everything a worker is told once, at its start."""

    prepared: PreparedEngine
    limits: Limits
    batch: int  # of the network: what its caches hold at once is fastest
    memory_bytes: int  # what decoding may allocate on top of the idle worker
    tasks: int = 32  # files in one message: each message costs the daemon a wake-up
    heatmaps: str = ""  # folder that gets one per judged image
    shared: bool = False  # whether one process computes for all workers: it owns the device
    # A device computes a batch in milliseconds; one that takes this long hangs. Shorter than the workers'
    # own patience, so that the device is blamed and not the files.
    answer_seconds: float = 30.0
    decode_seconds: float | None = None  # longest time for one file; None: as the pool was started with
    request_seconds: float = 6.0  # one request to an object store: a store that hangs is no guilty file


@dataclass(frozen=True, slots=True)
class Census:
    """How the workers of a pool are at one moment."""

    wanted: int  # how many there are when all is well
    ready: int  # that have opened their engine
    stuck: int  # that hold files and have shown no progress for longer than a file should take


@dataclass(frozen=True, slots=True)
class RemoteWorker:
    """A worker on another machine, as `status` tells of it."""

    name: str
    lanes: int
    images_per_second: float  # over the last minute
    silent_seconds: float  # since it was last heard of
    refused: str = ""  # why it was not let in, '' if it works


@dataclass(frozen=True, slots=True)
class Known:
    """Where a worker finds what was concluded before about the very same bytes."""

    database: str  # a file; "": nothing is looked up, everything is inferred
    model_id: int
    secret: bytes = field(
        default=b"", repr=False
    )  # to make pseudonyms of what files say they are part of; b"": none are made


@dataclass(frozen=True, slots=True)
class EngineSetup:
    """What the process that owns a device is told at its start."""

    prepared: PreparedEngine
    batch: int  # the most one worker sends at once
    maps: bool  # whether anybody wants the activation maps
