"""The progress bar of `watch --once` on a terminal: images per second, remaining, time left."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from daemon.log import stderr_failed

if TYPE_CHECKING:
    from daemon.service.service import Service

# Redrawing costs about a millisecond; more often than this nobody sees.
_SECONDS_BETWEEN = 0.2
# The bar takes what a line of this many characters leaves beside the words and numbers.
_WORDS_CHARACTERS = 56
_BAR_CHARACTERS = (4, 40)


class ProgressBar:
    """A watcher of the service that draws on stderr, without a thread of its own.

    While it is drawn, what is written to stderr, the log above all, stands above it.
    """

    def __init__(self, *, color: bool) -> None:
        # The stream itself, for its name is another's while the bar is drawn.
        console = Console(file=sys.stderr, no_color=not color, highlight=False)
        room = console.width - _WORDS_CHARACTERS
        self._progress = Progress(
            TextColumn("judging"),
            BarColumn(bar_width=min(max(room, _BAR_CHARACTERS[0]), _BAR_CHARACTERS[1])),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stderr=False,  # rich would break long lines
        )
        self._task = self._progress.add_task("judging", total=None, rate="")
        self._started = self._drawn = float("-inf")

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        self._stderr, sys.stderr = sys.stderr, cast("TextIO", _AboveTheBar(self._progress.console))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.stderr = self._stderr
        try:
            self._progress.stop()
        except OSError as gone:
            stderr_failed(gone)

    def turned(self, service: Service) -> None:
        """Draw how far the work has come, at most five times a second."""
        now = service.clock.monotonic()
        if self._started == float("-inf"):
            self._started = now
        if now - self._drawn < _SECONDS_BETWEEN:
            return
        self._drawn = now
        done = service.counters.judged + service.counters.failed
        rate = done / (now - self._started) if now > self._started else 0.0
        self._progress.update(
            self._task, completed=done, total=max(done, service.known_work()), rate=f"{rate:,.0f} images/s"
        )
        try:
            self._progress.refresh()
        except OSError as error:  # the terminal is gone: that costs the bar only
            stderr_failed(error)


class _AboveTheBar:
    """Takes stderr's place: rich takes the bar away, writes the line whole, and draws the bar below it."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def write(self, line: str) -> int:
        """Write text that ends in a newline."""
        self._console.print(Text(line), end="", soft_wrap=True)
        return len(line)

    def flush(self) -> None:
        """Do nothing: it is written at once."""
