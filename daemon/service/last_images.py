"""Show the last images at a terminal as they come: name, class, confidence, duration."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.text import Text

from daemon.log import stderr_failed
from daemon.service.image_log import line_of
from storage.schema import FileState

if TYPE_CHECKING:
    from daemon.service.service import Service, Told

_SHOWN = 8
# More often than this nobody reads.
_SECONDS_BETWEEN = 0.2


class LastImages:
    """A reporter and watcher of the service that draws on stderr, without a thread of its own."""

    def __init__(self, *, color: bool) -> None:
        self._live = Live(console=Console(stderr=True, no_color=not color), auto_refresh=False)
        self._lines: deque[Text] = deque(maxlen=_SHOWN)
        self._drawn = float("-inf")
        self._new = False

    def __enter__(self) -> LastImages:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._draw()
        try:
            self._live.stop()
        except OSError as gone:
            stderr_failed(gone)

    def stored(self, told: Sequence[Told]) -> None:
        """Keep the last ones to be drawn."""
        at = time.strftime("%H:%M:%S")
        for one in told[-_SHOWN:]:
            style = "red" if one.state is FileState.QUARANTINED else ""
            self._lines.append(Text(f"{at}  {line_of(one)}", style=style, no_wrap=True, overflow="ellipsis"))
            self._new = True

    def turned(self, service: Service) -> None:
        """Draw what is new, at most five times a second."""
        now = service.clock.monotonic()
        if self._new and now - self._drawn >= _SECONDS_BETWEEN:
            self._drawn = now
            self._draw()

    def _draw(self) -> None:
        """Draw; a terminal that is gone costs the picture only."""
        self._new = False
        try:
            self._live.update(Text("\n").join(self._lines), refresh=True)
        except OSError as error:
            stderr_failed(error)
