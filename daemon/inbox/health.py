"""Health of an inbox, as measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InboxHealth:
    """How well an inbox is being watched, as measured."""

    root: bytes
    state: str  # "watching", "polling" or "degraded"
    why: str  # why not "watching", one line
    last_scan_age_seconds: float | None  # None: no scan has finished yet
    last_scan_seconds: float | None  # from the first entry to the last
    waiting: int  # files not known to be complete
    found_by_scan_only: int  # no event announced them
    events: int
    overflows: int  # how often the kernel dropped events
    odd_entries: int  # pipes, sockets, devices, symbolic links: never read
    watcher_alive: bool
    passed_over: int = 0  # entries of the last scan that hold no image by their name, or are hidden
    passed_over_kinds: str = ""  # the same in words: "6 .json, 3 hidden"
