"""Addresses of object stores: s3://BUCKET/PREFIX, gs://, az:// and, to try things out, file:///FOLDER."""

from __future__ import annotations

import re
from dataclasses import dataclass

from config.errors import UsageError
from config.text import printable

_SCHEMES = ("s3", "gs", "az", "file")
_URL = re.compile(rf"({'|'.join(_SCHEMES)})://(.*)", re.IGNORECASE | re.DOTALL)
_FOREIGN = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
# As obstore's Path has it: these it cannot express.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BUCKET = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._$-]{1,221}")


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A bucket, or what lies below a prefix of it, as an inbox; or one object."""

    scheme: str  # "s3", "gs", "az" or "file"
    bucket: str  # of file: the folder, absolute
    key: str  # without a slash at either end; "": the whole bucket

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}{'/' if self.key else ''}{self.key}"

    def __fspath__(self) -> str:
        """Return the text that stands where a path stands: in the ledger, in rows, in a task."""
        return str(self)

    def contains(self, other: StoreUrl) -> bool:
        """Tell whether `other` lies below this address."""
        if self.scheme == "file" or other.scheme == "file":
            return f"{other}/".startswith(f"{self}/")
        same = (self.scheme, self.bucket) == (other.scheme, other.bucket)
        return same and (not self.key or f"{other.key}/".startswith(f"{self.key}/"))


def is_readable_key(key: str) -> bool:
    """Tell whether a key can be asked for: no part is empty, . or .., none has control characters."""
    return _CONTROL.search(key) is None and not any(part in ("", ".", "..") for part in key.split("/"))


def is_store_url(path: bytes | str) -> bool:
    """Tell whether a path is the address of an object store: cheap, for every file that is read."""
    head = path[:7] if isinstance(path, str) else path[:7].decode("ascii", "replace")
    return head.lower().startswith(tuple(f"{scheme}://" for scheme in _SCHEMES))


def names_a_server(text: str) -> bool:
    """Tell whether a text is an address of any kind, not a path: nothing:// is a folder of ours."""
    return _FOREIGN.match(text) is not None


def parse_store_url(text: str) -> StoreUrl:
    """Return the parts of an address; raise UsageError for one that no object can have."""
    match = _URL.fullmatch(text)
    if match is None:
        raise UsageError(
            f"{printable(text)} is not an address this can read",
            hint="write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX",
        )
    scheme, rest = match[1].lower(), match[2]
    if scheme == "file":
        if not rest.startswith("/") or not rest.strip("/"):
            raise UsageError(f"{printable(text)} names no folder", hint="write file:///FOLDER")
        return StoreUrl("file", rest.rstrip("/"), "")
    bucket, _, key = rest.partition("/")
    if "@" in bucket or not _BUCKET.fullmatch(bucket):
        # Not shown: it may be a password.
        raise UsageError(
            f"{scheme}:// with a bucket name that cannot be",
            hint=f"write {scheme}://BUCKET/PREFIX; credentials come from the environment",
        )
    key = key.strip("/")
    if key and not is_readable_key(key):
        raise UsageError(
            f"{printable(text)}: a key with an empty part, . or a control character cannot be read",
            hint="name one without //",
        )
    return StoreUrl(scheme, bucket, key)
