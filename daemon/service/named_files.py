"""Files a command line names: each file itself, and of each folder those that `watch` would take."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from config.text import printable_name

if TYPE_CHECKING:
    from config.settings import Settings
    from daemon.inbox.filters import InboxRules

_PIECE = 1000


@dataclass(frozen=True, slots=True)
class NamedFile:
    """One file that was named, or that lies in a folder that was."""

    path: bytes  # as given, or below the folder as given
    inbox: bytes  # absolute, without links: the folder that was named, or the file's own


def named_files(given: Sequence[Path], settings: Settings, logger: logging.Logger) -> list[NamedFile]:
    """Return what is named, in the order given, the files of a folder sorted by their paths.

    A folder is gone through as an inbox is: the settings' recursive, include and exclude hold, hidden
    and half-finished files are left out. A path that does not exist is returned like any file.
    """
    return [file for path in given for file in _of(path, settings, logger)]


def _of(given: Path, settings: Settings, logger: logging.Logger) -> list[NamedFile]:
    path = os.fsencode(given)
    if not os.path.isdir(path):
        return [NamedFile(path, os.path.realpath(os.path.dirname(os.path.abspath(path))))]
    root = os.path.realpath(path)
    names = sorted(_below(root, _rules_of(root, settings), logger))
    return [NamedFile(os.path.join(path, name), root) for name in names]


def _rules_of(root: bytes, settings: Settings) -> InboxRules:
    from daemon.service.compose import inbox_rules
    from storage.database import stand_in

    folder = Path(os.fsdecode(root))
    return inbox_rules(settings, [folder], stand_in(settings.db), once=True)[folder]


def _below(root: bytes, rules: InboxRules, logger: logging.Logger) -> Iterator[bytes]:
    from daemon.inbox.filters import Choice
    from daemon.inbox.scan import Walk

    def tell(path: bytes, kind: str) -> None:
        logger.warning("ignored %s: %s", printable_name(os.path.join(root, path)), kind)

    walk = Walk(root, 0, Choice(rules, root), tell, recursive=rules.recursive)
    while not walk.finished:
        yield from (look.version.path for look in walk.piece(_PIECE))
