"""Notifier: the one thread that looks at the daemon's state, posts its changes and pings.

It reads the database as any other program does, so the daemon's loop neither calls it nor waits for it.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from daemon.log import CauseLog
from daemon.notify.changes import STATE_SECONDS, Changes
from daemon.notify.notice import Notice, NoticeEvent
from daemon.notify.observation import DatabaseObserver, Observation
from daemon.notify.outbox import Outbox
from daemon.notify.receivers import DeliveryError, NoticeReceiver, failing, receivers, request
from daemon.notify.result_rule import ResultRule, result_rules
from daemon.views.health_check import HealthCause, Reason, Word
from storage.database import Target

if TYPE_CHECKING:
    from config.settings import Settings

LOOK_SECONDS = 2.0
PING_SECONDS = 60.0
# How long the daemon's end waits for what is still to be sent.
FINISH_SECONDS = 3.0


class Pinger:
    """Tells a service for dead man's switches that the daemon is well; silence is what it alarms on.

    As healthchecks.io documents it: GET URL is a success, GET URL/fail a failure. A daemon that is degraded
    fails, one whose loop does not turn is silent.
    """

    def __init__(self, address: str, log: CauseLog) -> None:
        self._address = address
        self._log = log
        self._said: bool | None = None
        self._last = float("-inf")

    def observe(self, *, well: bool | None, now: float) -> None:
        """Ping if it is time to; at once when it is another word than last time. None: say nothing."""
        if not self._address or well is None:
            return
        gap = PING_SECONDS if well is self._said else STATE_SECONDS
        if now < self._last + gap:
            return
        self._said, self._last = well, now
        try:
            request(self._address if well else failing(self._address))
        except DeliveryError as error:
            self._log("ping", f"the ping does not arrive ({error}); tried again every minute")
        else:
            self._log.over("ping", "the ping arrives again")


class Notifier:
    """Runs from `__enter__` to `__exit__`, which waits a few seconds for what is still to be sent."""

    def __init__(
        self,
        database: Target,
        to: Sequence[NoticeReceiver],
        ping: str,
        rules: Sequence[ResultRule],
        logger: logging.Logger,
    ) -> None:
        host, self._log = socket.gethostname(), CauseLog(logger, time.monotonic)
        self._observer = DatabaseObserver(database, rules)
        self._outboxes = [Outbox(receiver, host, self._log) for receiver in to]
        self._pinger = Pinger(ping, self._log)
        self._logger = logger
        self._ending = threading.Event()
        self._failed = False  # whether the daemon ends with an error
        self._thread = threading.Thread(target=self._run, name="notifier", daemon=True)
        self._changes: Changes

    def __enter__(self) -> Notifier:
        # Before the daemon stores anything: what is there now is no news.
        self._changes = Changes(self._observer.look(_now_us()), time.monotonic())
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._failed = kind is not None and issubclass(kind, Exception)
        self._ending.set()
        self._thread.join(FINISH_SECONDS)
        if self._thread.is_alive():
            self._logger.warning("a notification is still being sent: the daemon does not wait for it")

    def _run(self) -> None:
        try:
            for outbox in self._outboxes:
                outbox.check()
            next_look = time.monotonic()
            while not self._ending.is_set():
                now = time.monotonic()
                if now >= next_look:
                    next_look = now + LOOK_SECONDS
                    self._look(now)
                self._send(now)
                due = min([next_look, *(outbox.due() for outbox in self._outboxes)])
                self._ending.wait(max(0.0, due - time.monotonic()))
            self._finish()
        except Exception:  # the daemon's work goes on without being told of
            self._logger.exception("notifications have ended; restart the daemon to have them again")

    def _look(self, now: float) -> None:
        seen = self._observer.look(_now_us())
        for notice in self._changes.of(seen, now):
            self._post(notice)
        self._pinger.observe(well=self._is_well(seen, now), now=now)

    def _is_well(self, seen: Observation, now: float) -> bool | None:
        """Whether a ping says success or failure; None: silence, of one that starts or does not turn."""
        if seen.health.word is Word.DOWN:
            return None
        if any(self._changes.counts(reason, now) for reason in seen.health.told):
            return False
        return True if seen.health.word is Word.HEALTHY else None

    def _post(self, notice: Notice) -> None:
        for outbox in self._outboxes:
            outbox.add(notice)

    def _send(self, now: float) -> None:
        """Give every receiver whose time has come one message."""
        for outbox in self._outboxes:
            if outbox.due() <= now and not self._ending.is_set():
                outbox.send_one(time.monotonic())

    def _finish(self) -> None:
        """Send what is left, each message once."""
        deadline, now = time.monotonic() + FINISH_SECONDS, time.monotonic()
        for notice in self._changes.of_numbers(self._observer.look(_now_us()), now, at_once=True):
            self._post(notice)
        if self._failed:
            died = Reason(HealthCause.DIED, "")
            about = {"health": Word.DOWN.value, "causes": [died.cause.value]}
            text = "down: the daemon ends with an error"
            self._post(Notice(NoticeEvent.DOWN, "health", _now_us(), text, about))
        for outbox in self._outboxes:
            while outbox.due() <= (now := time.monotonic()) < deadline:
                outbox.send_one(now)
            outbox.give_up()


def notifying(settings: Settings, classes: Sequence[str], logger: logging.Logger) -> Notifier:
    """Return what tells of the daemon on the settings' database while it is entered.

    `classes` are the model's. Raises UsageError for a class that the model does not have.
    """
    rules = result_rules(settings.notify_when, classes)
    return Notifier(settings.db, receivers(settings.notify), settings.ping, rules, logger)


def _now_us() -> int:
    return time.time_ns() // 1000
