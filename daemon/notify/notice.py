"""Notice: one message about the daemon, and the JSON that a webhook gets of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from config.text import DISCLAIMER


class NoticeEvent(StrEnum):
    """Everything that is told; the words of the JSON's `event`."""

    DEGRADED = "degraded"
    DOWN = "down"
    RECOVERED = "recovered"
    NOT_STORED = "not_stored"
    STORED_AGAIN = "stored_again"
    QUARANTINE = "quarantine"
    DRIFT = "drift"
    DRIFT_OVER = "drift_over"
    RESULT = "result"


@dataclass(frozen=True, slots=True)
class Notice:
    """One message; none of its words comes from a path, a name of a file or model, a tag or a patient."""

    event: NoticeEvent
    topic: str  # of two messages of a topic that wait for the same receiver only the newer is sent
    time_us: int  # microseconds since the epoch
    text: str  # one line
    details: Mapping[str, Any]
    count: int = 1  # changes, files or images since the last message of this topic

    def after(self, older: Notice | None) -> Notice:
        """Return this message with what an older one that was never delivered had counted."""
        return self if older is None else replace(self, count=self.count + older.count)

    def line(self, host: str) -> str:
        """Return the message in one line, for services that show text."""
        return f"bt-daemon on {host}: {self.text}"

    def payload(self, host: str) -> bytes:
        """Return the JSON object that is posted, UTF-8."""
        told = {
            "event": self.event.value,
            "time": datetime.fromtimestamp(self.time_us / 1e6, UTC).isoformat(timespec="milliseconds"),
            "host": host,
            "text": self.line(host),
            "details": {**self.details, "count": self.count},
            "notice": DISCLAIMER,
        }
        return json.dumps(told, ensure_ascii=False).encode()
