"""The values that travel between the daemon and the database: small and frozen.

A lane (worker process) tells `Outcome`s to the daemon, the daemon hands them to the `Ledger`.
Paths are bytes: a name on Linux need not be UTF-8, and must survive the way through the database.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Status(StrEnum):
    """What a row says about its image; `results --status` takes these words."""

    OK = "ok"
    UNCERTAIN = "uncertain"  # inside the band around the threshold: a person should look
    REJECTED = "rejected"  # not an image of the kind the model was made for: no class is given
    ERROR = "error"  # could not be judged; the reason says why


class FailureKind(StrEnum):
    """What the ledger does next with a file that was not judged."""

    TRANSIENT = "transient"  # busy, permission, I/O: try again later, quarantine when exhausted
    INCOMPLETE = "incomplete"  # empty or truncated: wait for a change until the deadline
    PERMANENT = "permanent"  # not an image, over a limit, broken: quarantine at once
    CHANGED = "changed"  # the file changed while it was read: this version is superseded
    GONE = "gone"  # deleted before it was read: no error row


class FileVersion(NamedTuple):
    """One version of one file in an inbox, as lstat saw it; a tuple, for a rescan makes 100,000 of them."""

    inbox_id: int
    folder: bytes  # relative to the inbox, b"" for the inbox itself, no trailing slash
    name: bytes
    size: int  # bytes
    mtime_ns: int
    inode: int

    @property
    def path(self) -> bytes:
        """The path relative to the inbox."""
        return os.path.join(self.folder, self.name)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file version the ledger holds and that is waiting to be judged."""

    file_id: int
    version: FileVersion
    attempts: int  # how often judging it has failed so far
    first_seen_us: int  # microseconds since the epoch, UTC


@dataclass(frozen=True, slots=True)
class SeriesKeys:
    """Which series a file is a part of, as pseudonyms (16 bytes each), see `storage.pseudonyms`."""

    series: bytes
    study: bytes | None = None
    patient: bytes | None = None
    position: float | None = None  # along the series, in mm or by number


@dataclass(frozen=True, slots=True)
class PathMembership:
    """Which series a path says a file is a part of; as text, for paths are stored as they are."""

    series: str
    study: str = ""  # "": not said
    patient: str = ""
    position: float | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """What the network and the judgement concluded about one image."""

    status: Status  # OK, UNCERTAIN or REJECTED
    label: str | None  # None when rejected
    confidence: float | None  # calibrated probability of `label`, 0..1; None when rejected
    reason: str | None = None  # why it was rejected or is uncertain
    slice_index: int | None = None  # which slice decided, for volumes and multi-frame objects
    slice_count: int | None = None
    tags: dict[str, str] | None = None  # named DICOM tags, only those a setting asks for
    score: float | None = None  # calibrated probability of the class of interest, of rejected images too
    series: SeriesKeys | None = None  # None: the file itself does not say
    votes: dict[int, int] | None = None  # of a file of several slices: vote -> how many say so; {}: none
    rejected: int = 0  # slices of such a file that have no vote
    distance: float | None = None  # to the training images, in the model's measure; told, not stored


@dataclass(frozen=True, slots=True)
class Failed:
    """Why one image was not judged."""

    kind: FailureKind
    reason: str  # one line, free of patient data and control characters


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one entry: exactly one is recorded for each attempt."""

    file_id: int
    result: Judged | Failed
    sha256: bytes | None = None  # 32 bytes, None when the file could not be read
    duration_us: int = 0  # its own reading and decoding, and its slices' share of the inference


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """The identity of what judged: every row names it."""

    weights_sha256: str  # hex digest of the weights file
    name: str
    version: str
    engine: str  # "openvino", "torch"
    precision: str  # "fp32" or "bf16"
    device: str  # "cpu", "cuda:0"
    classes: tuple[str, ...]
    why: str = ""  # how the engine and precision came to be picked
    positive: str | None = None  # the class a score is the probability of; None: of the likeliest class
    threshold: float | None = None  # score from which the label is `positive`
    uncertain_low: float | None = None  # the band in which a result is uncertain: low <= score < high
    uncertain_high: float | None = None
    series_rule: str | None = None  # how slices become the verdict of a series, JSON
