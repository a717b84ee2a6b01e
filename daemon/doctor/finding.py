"""Finding of a check: a fact, how bad it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from config.database_url import is_server_url
from config.settings import Settings


class Level(StrEnum):
    """How bad a finding is; only `FAIL` makes the machine unhealthy."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what it is like, and what to do about it."""

    check: str
    level: Level
    fact: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is to be looked at."""

    settings: Settings
    database: Path  # of one on a server: what stands for it here
    folders: Sequence[Path]

    @property
    def on_server(self) -> bool:
        """Whether the database lies on a server."""
        return is_server_url(self.settings.db)


Found = tuple[Level, str, str]  # how bad, the fact, the advice
Check = Callable[[Surroundings], Iterator[Found]]


def existing_parent(path: Path) -> Path:
    """Return the nearest parent that is there."""
    path = path.expanduser().absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
