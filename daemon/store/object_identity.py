"""Identity of an object's version: size, time of last change and ETag, in the places of a file's lstat.

Listings, HEAD and GET must give the same identity for the same version. A listing tells no version id on
any store, and S3's headers tell whole seconds where some servers' listings (MinIO) tell milliseconds; Azure
quotes ETags in headers only. So the time is cut to seconds and the ETag stripped; the version id stands in
where a store gives no ETag. Two versions with one identity were written within one second and have one
ETag: the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple


class ObjectIdentity(NamedTuple):
    """What `FileVersion` and `Task` hold of a file, of an object."""

    size: int  # bytes
    mtime_ns: int  # whole seconds since the epoch, in nanoseconds
    inode: int  # 63 bits of a hash of the ETag, else of the version id; 0 where there is neither


class ListedObject(NamedTuple):
    """One object as a listing or a HEAD tells it."""

    key: str  # below the inbox, "/" between its parts
    identity: ObjectIdentity


def identity_of(meta: Mapping[str, Any]) -> ObjectIdentity:
    """Return the identity in an answer of obstore (`ObjectMeta`)."""
    return make_identity(meta["size"], meta["last_modified"], meta.get("e_tag") or meta.get("version") or "")


def make_identity(size: int, changed: datetime, tag: str) -> ObjectIdentity:
    """Return the identity of an object of `size` bytes; `tag` as any answer gives it."""
    return ObjectIdentity(size, int(changed.timestamp()) * 1_000_000_000, _number_of(tag))


def _number_of(tag: str) -> int:
    bare = tag.removeprefix("W/").strip('"')
    if not bare:
        return 0
    return int.from_bytes(hashlib.blake2b(bare.encode(), digest_size=8).digest(), "big") >> 1
