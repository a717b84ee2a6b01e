"""A worker on another machine: it joins a head with its lanes, judges the batches it gets, joins again.

What the head says is data: terms, tasks, weights that are checked by their hash. Lanes, engine, memory
limit, hang detection and guilty files are those of this machine, as in a daemon.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from config.errors import BtError
from config.text import printable
from daemon.frames import GarbledError
from daemon.log import CauseLog
from daemon.remote.absence import Absence
from daemon.remote.head_link import HeadLink, HeadLostError
from daemon.remote.node_batches import NodeBatches
from daemon.remote.root_proof import prove_root
from daemon.remote.terms import PROTOCOL, Computed, Terms
from daemon.remote.unreachable import why_never
from daemon.version import program_version
from daemon.workers.messages import Known

if TYPE_CHECKING:
    from daemon.clock import Clock
    from daemon.remote.head_address import HeadAddress
    from daemon.workers.lanes import Lanes
    from daemon.workers.messages import WorkerSetup

# How long a worker that was told to stop may finish what it has.
FINISH_SECONDS = 20.0
_PAUSES = (0.5, 1.0, 2.0, 5.0)
_TURN_SECONDS = 1.0
# A head that lets go sooner is not asked again at once.
_SHORTEST_SECONDS = 1.0


class JoinError(BtError):
    """The head never came, or does not let this worker in: other version, model, engine, folder or key."""

    exit_code = 6


@dataclass(slots=True)
class HeadWeights:
    """What a worker needs of the weights of the head's model."""

    sha256: str
    read: Callable[[int], bytes]  # part of the file from a place on; b"" at its end


class StopRequest(Protocol):
    """Says whether to finish."""

    @property
    def requested(self) -> bool:
        """Whether somebody asked for it."""


class Waits(Protocol):
    """Waits for whatever comes first; see `daemon.service.signals.Waker`."""

    def wake(self) -> None:
        """End the current or the next wait; from any thread."""

    def wait(self, others: Sequence[Any], timeout: float | None) -> None:
        """Wait until woken, until one of `others` can be read, or for `timeout` seconds."""


# Makes ready what the terms ask for: returns what is computed with, and what the lanes are told.
Prepare = Callable[[Terms, HeadWeights], tuple[Computed, "WorkerSetup"]]


@dataclass(slots=True)
class Node:
    """One worker: joins with `lanes` until it is stopped, or the head has been away for too long."""

    head: HeadAddress
    key: str
    lanes: Lanes
    count: int  # lanes, as the head is told
    prepare: Prepare
    stop: StopRequest
    waker: Waits
    clock: Clock
    logger: logging.Logger
    absence: Absence
    name: str = field(default_factory=lambda: f"{platform.node()}:{os.getpid()}")
    _begun: Terms | None = None
    _failures: int = 0

    def run(self) -> bool:
        """Work until stopped or alone for too long; return False when the head wants other lanes than begun.

        Raises JoinError when the head will never let this worker in, and when it never came.
        """
        log = CauseLog(self.logger, self.clock.monotonic)
        with HeadLink(self.head, self.key, self.waker.wake) as link:
            while not self.stop.requested and self.absence.left():
                try:
                    ticket = self._admitted(link)
                    if ticket is None:
                        return False
                    self._wait_until_ready()
                    self.absence.over()
                    if self.stop.requested:
                        break
                    link.join(ticket, self.count, lambda: self.stop.requested)
                except HeadLostError as error:
                    self._pause(log, str(error))
                    continue
                self._failures, self.absence.joined = 0, True
                log.over("away", f"{self.head} answers again")
                self.logger.info("joined %s as %s", self.head, self.name)
                served = self._serve(link)
                self.absence.over()
                if served < _SHORTEST_SECONDS:
                    self._pause(log, "it let go of this worker after a moment")
        if not self.absence.left() and not self.stop.requested:
            self._give_up()
        return True

    def _give_up(self) -> None:
        away = f"{self.absence.longest:g} s"
        if not self.absence.joined:
            raise JoinError(
                f"{self.head} could not be joined for {away}",
                hint="start bt-daemon watch DIR --workers there, or wait longer: --leave-after",
            )
        self.logger.info("%s has been away for %s", self.head, away)

    def _pause(self, log: CauseLog, why: str) -> None:
        """Wait before the next try; raise JoinError if there is no use in it."""
        if self.stop.requested:
            return
        if never := why_never(self.head, self.key):
            raise JoinError(f"cannot join {self.head}: {never[0]}", hint=never[1])
        if not self.absence.left():
            return
        log(
            "away",
            f"{self.head} cannot be joined ({printable(why[:200])}); tried again and again",
        )
        pause = _PAUSES[min(self._failures, len(_PAUSES) - 1)]
        self._failures += 1
        end = self.clock.monotonic() + min(pause, self.absence.left())
        while not self.stop.requested and (left := end - self.clock.monotonic()) > 0:
            self.waker.wait([], left)

    def _admitted(self, link: HeadLink) -> str | None:
        """Agree with the head; return the ticket to join with, None if the lanes cannot serve these terms."""
        told = self._ask(link, "bt_greet", name=self.name, version=program_version(), protocol=PROTOCOL)
        self.absence.over()
        ticket, terms = told["ticket"], Terms.from_dict(told["terms"])
        roots = [prove_root(question) for question in told["roots"]]
        self._ask(link, "bt_prove", name=self.name, ticket=ticket, roots=roots)
        if self._begun is not None and self._begun != terms:
            return None
        computed, setup = self._prepared(link, ticket, terms)
        self.absence.over()  # it was this worker that kept the head waiting
        offer = {"name": self.name, "ticket": ticket, "computed": asdict(computed), "lanes": self.count}
        accepted = self._ask(link, "bt_offer", **offer)
        if self._begun is None:
            self._begun = terms
            self.lanes.begin(setup)
            self.lanes.remember(Known("", 0, accepted["secret"]))
        return str(ticket)

    def _prepared(self, link: HeadLink, ticket: str, terms: Terms) -> tuple[Computed, WorkerSetup]:
        """Make ready what the terms ask for; where that cannot be, whoever looks at the head learns why."""
        weights = HeadWeights(
            terms.computed.weights_sha256,
            lambda start: link.ask("bt_weights", lambda: self.stop.requested, start=start),
        )
        try:
            return self.prepare(terms, weights)
        except (BtError, OSError) as error:
            with contextlib.suppress(HeadLostError):
                link.ask("bt_unable", self._no_longer, name=self.name, ticket=ticket, why=str(error))
            raise

    def _ask(self, link: HeadLink, question: str, **values: Any) -> dict[str, Any]:
        told: dict[str, Any] = link.ask(question, self._no_longer, **values)
        if why := told.get("refused"):
            if told.get("for_good"):
                raise JoinError(
                    f"refused by {self.head}: {printable(str(why)[:500])}",
                    hint="a worker has to equal the daemon in version, engine, device and folders",
                )
            raise HeadLostError(str(why))
        return told

    def _no_longer(self) -> bool:
        return self.stop.requested or not self.absence.left()

    def _wait_until_ready(self) -> None:
        """Open the engine before joining, and forget what an earlier head wanted: it asks again."""
        while not self.stop.requested and (not self.lanes.ready or self.lanes.in_flight()):
            self.waker.wait(self.lanes.waitables(), _TURN_SECONDS)
            self.lanes.collect()

    def _serve(self, link: HeadLink) -> float:
        """Judge what comes until the head is lost, or until stopped and all is done that was begun.

        Returns for how long that was, seconds.
        """
        began = self.clock.monotonic()
        batches = NodeBatches(self.lanes, link.answer)
        ends: float | None = None
        while link.joined:
            now = self.clock.monotonic()
            if self.stop.requested and ends is None:
                ends = now + FINISH_SECONDS
                link.leaving()
            if ends is not None and (now >= ends or not batches.held):
                break
            left = min(self.lanes.next_deadline() - now, _TURN_SECONDS)
            self.waker.wait(self.lanes.waitables(), max(0.0, left))
            try:
                for number, tasks in link.received():
                    batches.take(number, tasks)
            except GarbledError as error:
                self.logger.warning("the head sends what is no batch (%s)", error)
                break
            batches.turn()
        link.leave()
        return self.clock.monotonic() - began
