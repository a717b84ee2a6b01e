"""Errors of object stores, understood: one line each, without addresses, names or secrets.

obstore's own messages hold URLs (on Azure with their signature) and pages of debugging; of them only the HTTP
status and the service's error code are taken.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound", "NoSuchContainer"})
# What a server answers with another status than 401 or 403 although it is the request's signature it minds.
_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "InvalidToken",
        "TokenRefreshRequired",
        "AuthorizationHeaderMalformed",
        "InvalidAccessKeyId",
    }
)
# Where obstore asks for credentials of the machine when it finds no others.
_MACHINE = re.compile(r"http://(169\.254\.169\.|169\.254\.170\.|metadata\.google)")


class StoreFault(Enum):
    """What can be done about it."""

    GONE = "gone"  # the object is not there
    CHANGED = "changed"  # it is another version than the one asked for
    NO_BUCKET = "no bucket"
    DENIED = "denied"  # credentials or permissions
    BAD_KEY = "bad key"  # an object whose name obstore cannot express
    UNREACHABLE = "unreachable"  # network, 429, 5xx: may pass by itself


@dataclass(frozen=True, slots=True)
class StoreTrouble:
    """One error, understood."""

    fault: StoreFault
    words: str  # continues "the object store ..."


def explain(error: Exception) -> StoreTrouble:
    """Return what an exception of obstore means."""
    from obstore import exceptions

    text = str(error)
    status = _STATUS.search(text)
    number = int(status[1]) if status else 0
    code = found[1] if (found := _CODE.search(text)) else ""
    shown = " ".join(part for part in (str(number or ""), code) if part)
    if isinstance(error, exceptions.InvalidPathError):
        return StoreTrouble(StoreFault.BAD_KEY, "holds a key with an empty part, . or a control character")
    gone = isinstance(error, FileNotFoundError) or number == 404
    changed = isinstance(error, exceptions.PreconditionError) or number in (304, 412, 416)
    elsewhere = number == 301 or "Received redirect without LOCATION" in text
    causes = (
        (_MACHINE.search(text), StoreFault.DENIED, "was asked without credentials: none were found"),
        (code in _NO_BUCKET, StoreFault.NO_BUCKET, f"has no such bucket ({shown})"),
        (gone, StoreFault.GONE, f"has no such object ({shown or 404})"),
        (changed, StoreFault.CHANGED, "has another version by now"),
        (_is_denied(error, number, code), StoreFault.DENIED, f"denies access ({shown or 'no permission'})"),
        (elsewhere, StoreFault.DENIED, "has this bucket in another region"),
        (True, StoreFault.UNREACHABLE, f"answers {shown}" if number else "cannot be reached"),
    )
    return next(StoreTrouble(fault, words) for applies, fault, words in causes if applies)


def _is_denied(error: Exception, number: int, code: str) -> bool:
    from obstore import exceptions

    named = isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError)
    return named or isinstance(error, PermissionError) or number in (401, 403) or code in _CREDENTIALS
