"""Exclusion list: files of public collections that take no part, with the reason, from a CSV file.

`leave-out` is for what teaches nothing or the wrong thing (a wrong label, a copy with other tones);
`reject` for what is no image of the kind at all (head CT among MR): an example of what a model must reject.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from config.errors import UsageError
from config.text import printable

LEAVE_OUT: Final = "leave-out"
REJECT: Final = "reject"
_COLUMNS = ("file", "use", "reason")


@dataclass(frozen=True, slots=True)
class Exclusions:
    """Which files take no part, by their names below the folder that holds the roots."""

    path: Path | None = None  # of the list, which must name one image at least; None: it need not
    uses: Mapping[str, str] | None = None  # name -> LEAVE_OUT or REJECT

    def use_of(self, name: str) -> str | None:
        """Return LEAVE_OUT or REJECT for a file that takes no part, None for one that does."""
        return self.uses.get(name) if self.uses else None

    def where_named(self) -> Exclusions:
        """Return the list for further images that it need not name any of."""
        return replace(self, path=None)

    def check_used(self, names: Iterable[str]) -> None:
        """Raise UsageError if the list names none of the files: it is another collection's, then."""
        if self.path is None or not self.uses or any(name in self.uses for name in names):
            return
        raise UsageError(
            f"the exclude list {printable(str(self.path))} names none of the images",
            hint="it names files below the folder that holds the --data folders, as in set/yes/1.png",
        )


NO_EXCLUSIONS: Final = Exclusions()


def read_exclusions(path: Path) -> Exclusions:
    """Return what a CSV with the columns file, use and reason excludes.

    Raises UsageError for a file that cannot be read, other columns, a use that is neither leave-out nor
    reject, no files at all, or a file with two uses.
    """
    uses: dict[str, str] = {}
    shown = printable(str(path))
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            if not set(_COLUMNS) <= set(reader.fieldnames or ()):
                raise UsageError(
                    f"the exclude list {shown} lacks the columns {', '.join(_COLUMNS)}",
                    hint=f"its first line must read {','.join(_COLUMNS)}",
                )
            for row in reader:
                _add(uses, row["file"] or "", row["use"] or "", f"line {reader.line_num} of {shown}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read the exclude list {shown}: {error}") from error
    if not uses:
        raise UsageError(
            f"the exclude list {shown} names no file", hint="leave the option away to use every image"
        )
    return Exclusions(path, uses)


def _add(uses: dict[str, str], name: str, use: str, place: str) -> None:
    if not name:
        raise UsageError(f"{place} names no file", hint="its columns are file,use,reason")
    if use not in {LEAVE_OUT, REJECT}:
        raise UsageError(f"{place} has the use {printable(repr(use))}", hint=f"write {LEAVE_OUT} or {REJECT}")
    if uses.setdefault(name, use) != use:
        raise UsageError(
            f"{place} gives {printable(name)} another use than a line before", hint="name each file once"
        )
