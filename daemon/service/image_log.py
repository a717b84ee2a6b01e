"""Log images: what failed and why, and with -v what was judged and how.

A folder full of what is no image must not fill the log: beyond ten lines a minute the failures are counted
by cause, and each cause is said once when the minute is over.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from config.text import printable, printable_name
from storage.records import Failed, Judged, Status
from storage.schema import FileState

if TYPE_CHECKING:
    from daemon.service.service import Service, Told

_LINES = 10
_SECONDS = 60.0
# So many causes are told apart in one minute.
_MOST_CAUSES = 20
_OTHER = "for other reasons"


class ImageLog:
    """A reporter and watcher of the service that writes to the log."""

    def __init__(
        self,
        logger: logging.Logger,
        monotonic: Callable[[], float],
        inboxes: Mapping[int, str] = MappingProxyType({}),
        model: str = "",
    ) -> None:
        """`inboxes` (id to path, printable) and `model` (its hash) go into lines of JSON."""
        self._logger = logger
        self.inboxes, self.model = inboxes, model
        self._monotonic = monotonic
        self._began = float("-inf")  # of the minute, with its first failure
        self._lines = 0
        self._kept: Counter[str] = Counter()  # cause -> failures without a line of their own
        self._last: dict[str, str] = {}  # cause -> the last of these files

    def stored(self, told: Sequence[Told]) -> None:
        """Log what became of images."""
        verbose = self._logger.isEnabledFor(logging.DEBUG)
        for one in told:
            if one.state in (FileState.PENDING, FileState.QUARANTINED):
                self._failed(one)
            elif verbose:
                self._logger.debug("%s", line_of(one), extra=self._facts(one))

    def turned(self, service: Service) -> None:  # noqa: ARG002 - a watcher's signature
        """Say what was kept back, when the minute is over."""
        if self._kept and self._monotonic() >= self._began + _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Say now what was kept back."""
        for cause, number in self._kept.items():
            files = "1 more file" if number == 1 else f"{number} more files"
            self._logger.info(
                "%s %s (the last: %s)", files, cause, self._last[cause],
                extra={"event": "images_failed", "fields": {"count": number, "cause": cause}},
            )  # fmt: skip
        self._kept.clear()
        self._last.clear()

    def _facts(self, told: Told) -> dict[str, object]:
        """Return the event of an image and its fields, for lines of JSON; names are escaped."""
        result, version = told.outcome.result, told.entry.version
        failed = isinstance(result, Failed)
        fields = {
            "inbox": self.inboxes.get(version.inbox_id, ""),
            "file": printable_name(version.path),
            "duration_ms": round(told.outcome.duration_us / 1000, 1),
            "model": self.model,
        }
        if isinstance(result, Failed):
            fields |= {"cause": printable(result.reason), "kind": str(result.kind)}
        else:
            fields |= {"status": str(result.status), "class": result.label, "confidence": result.confidence}
        fields["state"] = told.state.name.lower()
        return {"event": "image_failed" if failed else "image_judged", "fields": fields}

    def _failed(self, told: Told) -> None:
        now = self._monotonic()
        if now >= self._began + _SECONDS:
            self.flush()
            self._began, self._lines = now, 0
        self._lines += 1
        if self._lines <= _LINES:
            self._logger.info("%s", line_of(told), extra=self._facts(told))
            return
        cause = _cause(told)
        if cause not in self._kept and len(self._kept) >= _MOST_CAUSES:
            cause = _OTHER
        self._kept[cause] += 1
        self._last[cause] = printable_name(told.entry.version.path)


def line_of(told: Told) -> str:
    """Return one line on one image, safe to print: its name below the inbox, and what became of it."""
    name = printable_name(told.entry.version.path)
    result = told.outcome.result
    if isinstance(result, Failed):
        return f"{name}: {_cause(told)}"
    return f"{name}: {_judged(result)}, {told.outcome.duration_us / 1000:.0f} ms"


def _judged(result: Judged) -> str:
    if result.label is None:
        return f"{result.status}: {result.reason}" if result.reason else f"{result.status}"
    sure = "" if result.confidence is None else f" {result.confidence:.3f}"
    return f"{printable(result.label)}{sure}{' uncertain' if result.status is Status.UNCERTAIN else ''}"


def _cause(told: Told) -> str:
    result = told.outcome.result
    reason = printable(result.reason) if isinstance(result, Failed) else ""
    if told.state is FileState.QUARANTINED:
        return f"not judged: {reason}"
    return f"tried again later: {reason}" if told.state is FileState.PENDING else reason
