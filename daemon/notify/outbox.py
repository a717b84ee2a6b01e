"""Outbox: messages on their way to one receiver, tried again with growing waits.

Of each topic one message waits at most; a newer one takes its place and what it had counted. So the memory
is bounded by the number of topics, however long a receiver is away and however much happens meanwhile.
"""

from __future__ import annotations

import logging

from daemon.log import CauseLog
from daemon.notify.notice import Notice
from daemon.notify.receivers import DeliveryError, NoticeReceiver

# After the last wait a message is given up: some 40 minutes after it was first tried.
RETRY_SECONDS = (5.0, 15.0, 60.0, 300.0, 900.0, 1200.0)


class Outbox:
    """What one receiver is still to get."""

    def __init__(self, receiver: NoticeReceiver, host: str, log: CauseLog) -> None:
        self._receiver = receiver
        self._host = host
        self._log = log
        self._waiting: dict[str, Notice] = {}  # by topic, the longest waiting first
        self._failures = 0  # in a row
        self._not_before = float("-inf")
        self._dropped = 0

    def check(self) -> None:
        """Say at the start if no message can ever reach the receiver."""
        try:
            self._receiver.check()
        except DeliveryError as error:
            self._log(self._receiver.shown, f"nobody will be told at {self._receiver.shown}: {error}")

    def add(self, notice: Notice) -> None:
        """Take a message to be sent."""
        self._waiting[notice.topic] = notice.after(self._waiting.pop(notice.topic, None))

    def due(self) -> float:
        """Return the monotonic time at which something is to be sent; infinity: nothing waits."""
        return self._not_before if self._waiting else float("inf")

    def send_one(self, now: float) -> None:
        """Try to send the longest waiting message; takes as long as the receiver lets it, see receivers."""
        topic, notice = next(iter(self._waiting.items()))
        try:
            self._receiver.deliver(notice, self._host)
        except DeliveryError as error:
            self._failed(topic, error, now)
            return
        del self._waiting[topic]
        self._failures, self._not_before = 0, float("-inf")
        self._log.over(self._receiver.shown, f"{self._receiver.shown} takes notifications again")

    def give_up(self) -> None:
        """Say what will never be sent."""
        self._drop(len(self._waiting), "the daemon ends")
        self._waiting.clear()

    def _failed(self, topic: str, error: DeliveryError, now: float) -> None:
        if error.lasting:
            del self._waiting[topic]
            self._drop(1, str(error))
            return
        if self._failures >= len(RETRY_SECONDS):
            number = len(self._waiting)
            self._waiting.clear()
            self._failures, self._not_before = 0, float("-inf")
            self._drop(number, str(error))
            return
        self._not_before = now + RETRY_SECONDS[self._failures]
        self._failures += 1
        self._log(
            self._receiver.shown,
            f"{self._receiver.shown} does not take notifications ({error}); tried again",
            logging.WARNING,
        )

    def _drop(self, number: int, why: str) -> None:
        if not number:
            return
        self._dropped += number
        messages = "1 notification" if self._dropped == 1 else f"{self._dropped} notifications"
        self._log(
            f"drop {self._receiver.shown}",
            f"{messages} never reached {self._receiver.shown} ({why}); what happened is in this log and in "
            "bt-daemon status",
        )
