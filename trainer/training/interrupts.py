"""Hold Ctrl-C (SIGINT) back while code runs that it would leave with a lock taken or half a record."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Let an interrupt come at the end of the block; a second one comes at once.

    In another thread than the main one, which alone gets signals, and where interrupts are ignored, nothing
    is changed.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before in (None, signal.SIG_IGN):
        yield
        return
    held = False

    def hold(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - signal's signature
        nonlocal held
        if not held:
            held = True
            return
        held = False  # it is not to come again at the end
        signal.signal(signal.SIGINT, before)
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if held:
            signal.raise_signal(signal.SIGINT)
