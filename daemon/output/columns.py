"""Column type, and the user's list of columns."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from config.errors import UsageError
from config.text import printable

TAG_PREFIX = "tags."


class Kind(StrEnum):
    """What the values of a column are; each writer decides what that looks like."""

    TEXT = "text"
    NAME = "name"  # bytes: a path that need not be UTF-8
    INTEGER = "integer"
    CONFIDENCE = "confidence"  # 0..1
    TIME = "time"  # microseconds since the epoch, UTC
    MAPPING = "mapping"  # dict of text
    FLAG = "flag"  # True or False


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name (`--columns`, JSON key, CSV header), its kind, and how a row gives its value."""

    name: str
    kind: Kind
    read: Callable[[Any], Any]


def chosen_columns(given: str | None, known: Mapping[str, Column], default: Sequence[str]) -> list[Column]:
    """Return the columns named in "id,file,tags.StudyInstanceUID", or the default ones; "all" means all.

    Raises UsageError for a name that does not exist.
    """
    names = [part.strip() for part in given.split(",") if part.strip()] if given is not None else default
    if given is not None and not names:
        raise UsageError("--columns names no column", hint=f"choose from {', '.join(known)}")
    if list(names) == ["all"]:
        names = list(known)
    return [_column(name, known) for name in dict.fromkeys(names)]


def _column(name: str, known: Mapping[str, Column]) -> Column:
    if name in known:
        return known[name]
    if name.startswith(TAG_PREFIX) and len(name) > len(TAG_PREFIX):
        return _tag_column(name, known["tags"])
    close = difflib.get_close_matches(name.lower(), known, n=1)
    raise UsageError(
        f"--columns: there is no column {printable(repr(name))}"
        + (f", did you mean {close[0]}?" if close else ""),
        hint=f"choose from {', '.join(known)}, or tags.NAME",
    )


def _tag_column(name: str, tags: Column) -> Column:
    from config.dicom_keywords import checked_keyword

    try:
        tag = checked_keyword(name.removeprefix(TAG_PREFIX))
    except UsageError as error:
        raise UsageError(f"--columns: {error.what}", hint=error.hint) from None
    return Column(name, Kind.TEXT, lambda row: (tags.read(row) or {}).get(tag))
