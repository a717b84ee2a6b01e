"""What a running daemon says about itself: the heartbeat's snapshot, which `bt-daemon status` reads.

Only plain JSON values; a reader of another version shows what it knows and leaves the rest.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daemon.inbox import InboxHealth
    from storage.records import ModelRecord


def self_report(
    model: ModelRecord,
    inboxes: Sequence[InboxHealth],
    now_us: int,
    *,
    last_error: str = "",
    trouble: str = "",
    **counters: int,
) -> dict[str, Any]:
    """Return the snapshot; `trouble` says why the daemon cannot work as it should (a full disk)."""
    return {
        "model": {"name": f"{model.name} {model.version}", "weights_sha256": model.weights_sha256},
        "engine": {
            "name": model.engine,
            "precision": model.precision,
            "device": model.device,
            "why": model.why,
        },
        "inboxes": [inbox_report(health, now_us) for health in inboxes],
        "last_error": last_error,
        "trouble": trouble,
        **counters,
    }


def inbox_report(health: InboxHealth, now_us: int) -> dict[str, Any]:
    """Return an inbox's health with its last scan as a time, which stays true while the report ages."""
    told = asdict(health)
    age_seconds = told.pop("last_scan_age_seconds")
    told["path"] = os.fsdecode(told.pop("root"))
    told["last_scan_us"] = None if age_seconds is None else now_us - int(age_seconds * 1e6)
    return told
