"""The head's side of Dask: a scheduler that lets workers in, passes batches to them and answers back.

Dask gives what is hard to get right between machines: connections with TLS, membership, heartbeats. Its tasks
are not used: which worker gets which batch, and what becomes of it when that worker leaves, is the daemon's
own concern (`daemon.remote.head.remote_lanes`), as it is with its local workers.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin

from config.text import printable
from daemon.remote import wire
from daemon.remote.dask_settings import SILENT_SECONDS, security_of
from daemon.remote.head.bridge_setup import BridgeSetup
from daemon.remote.root_proof import RootProbe
from daemon.remote.terms import other_computation, other_program

_CHUNK_BYTES = 4 << 20
_MOST_LANES = 4096
_LONGEST_NAME = 80
_LONGEST_REASON = 500
# So many may be between their first word and their joining.
_MOST_GUESTS = 1000


class Head:
    """The scheduler of one daemon."""

    def __init__(self, setup: BridgeSetup, tell: Callable[[bytes], None]) -> None:
        """`tell` passes a message of `daemon.remote.wire` to the daemon."""
        self._setup = setup
        self._tell = tell
        self._guests: dict[str, list[RootProbe]] = {}  # ticket -> what it is asked
        self._admitted: dict[str, tuple[str, int]] = {}  # ticket -> name and lanes
        self._heard: dict[str, float] = {}  # address -> when its last answer came, monotonic seconds
        self._removing: set[asyncio.Future[Any]] = set()  # held until they are done
        self._scheduler: Scheduler | None = None

    async def start(self) -> None:
        """Listen; raise OSError where that cannot be."""
        address = self._setup.address
        everywhere = replace(address, host=address.host or "0.0.0.0")  # noqa: S104 - with a key only
        self._scheduler = scheduler = Scheduler(
            host=str(everywhere),
            security=security_of(address, self._setup.key),
            dashboard=False,
            dashboard_address="127.0.0.1:0",
        )
        scheduler.handlers.update(
            bt_greet=self.greet,
            bt_prove=self.prove,
            bt_weights=self.weights,
            bt_unable=self.unable,
            bt_offer=self.offer,
        )
        scheduler.stream_handlers.update(bt_answer=self.answered, bt_leaving=self.leaving)
        scheduler.add_plugin(_Membership(self))
        await scheduler
        self._tell(wire.pack(wire.LISTENING, str(scheduler.address)))

    async def close(self) -> None:
        """Tell the workers that the head ends, and end."""
        assert self._scheduler is not None
        for probes in self._guests.values():
            _close(probes)
        await self._scheduler.close(reason="the daemon ends")

    def hear(self, message: bytes) -> None:
        """Do what the daemon says."""
        assert self._scheduler is not None
        if message[:1] == wire.BATCH:
            batch = wire.unpack(message, wire.PackedBatch)
            if batch.address in self._scheduler.workers:
                told = {"op": "bt_batch", "number": batch.number, "tasks": batch.tasks}
                self._scheduler.worker_send(batch.address, told)
        elif message[:1] == wire.DROP:
            self._remove(wire.unpack(message, str))

    async def look_after(self) -> None:
        """Let go of workers that are silent, and tell the daemon of the others; once a second."""
        assert self._scheduler is not None
        silent = {}
        for address, state in list(self._scheduler.workers.items()):
            seconds = max(0.0, time.time() - state.last_seen)
            seconds = min(seconds, time.monotonic() - self._heard.get(address, float("-inf")))
            if seconds > SILENT_SECONDS:
                self._remove(address)
            silent[str(address)] = seconds
        self._tell(wire.pack(wire.ALIVE, silent))

    # What a worker asks before it joins.

    async def greet(self, name: str, version: str, protocol: int) -> dict[str, Any]:
        """Return the terms, and what is asked of each inbox; or why there is no use in asking."""
        if why := other_program(version, protocol):
            return self._refuse(name, why)
        terms = self._setup.terms
        if len(self._guests) >= _MOST_GUESTS:
            _close(self._guests.pop(next(iter(self._guests))))
        ticket = secrets.token_hex(8)
        self._guests[ticket] = probes = await asyncio.to_thread(
            lambda: [RootProbe(one) for one in terms.roots]
        )
        return {"ticket": ticket, "terms": terms.as_dict(), "roots": [probe.question() for probe in probes]}

    async def prove(self, name: str, ticket: str, roots: list[Any]) -> dict[str, Any]:
        """Return why a worker that sees this of the inboxes is refused, nothing if it is not."""
        probes = self._guests.get(ticket, [])
        if len(roots) != len(self._setup.terms.roots) or len(probes) != len(roots):
            return self._refuse(name, "it does not say what it sees of the inboxes", for_good=False)
        try:
            for probe, root in zip(probes, roots, strict=True):
                if why := await asyncio.to_thread(probe.refusal, root):
                    shown = printable(probe.root.decode(errors="replace"))
                    return self._refuse(name, f"{shown} {why}", for_good=not probe.trouble)
        finally:
            _close(probes)
        self._guests[ticket] = []
        return {}

    async def unable(self, name: str, ticket: str, why: str) -> None:
        """Tell the daemon of a worker that cannot compute what it was asked for."""
        if self._guests.pop(ticket, None) is not None:
            self._refuse(name, f"it cannot compute there: {why[:_LONGEST_REASON]}")

    async def offer(self, name: str, ticket: str, computed: dict[str, Any], lanes: int) -> dict[str, Any]:
        """Return the secret of pseudonyms, if the worker computes what the head asks for; else why not."""
        if self._guests.pop(ticket, None) != []:
            return self._refuse(name, "it has not shown that it sees the inboxes", for_good=False)
        why = other_computation(self._setup.terms.computed, computed)
        if not why and not 0 < lanes <= _MOST_LANES:
            why = f"it has {lanes} lanes"
        if why:
            return self._refuse(name, why)
        if len(self._admitted) >= _MOST_GUESTS:
            del self._admitted[next(iter(self._admitted))]
        self._admitted[ticket] = (printable(name[:_LONGEST_NAME]), lanes)
        return {"secret": self._setup.secret}

    async def weights(self, start: int) -> bytes:
        """Return a part of the weights file, b"" at its end."""
        return await asyncio.to_thread(self._part, start)

    def _part(self, start: int) -> bytes:
        with open(self._setup.weights, "rb") as stream:
            stream.seek(start)
            return stream.read(_CHUNK_BYTES)

    def _refuse(self, name: str, why: str, *, for_good: bool = True) -> dict[str, Any]:
        self._tell(wire.pack(wire.REFUSED, wire.Refused(printable(name[:_LONGEST_NAME]), why)))
        return {"refused": why, "for_good": for_good}

    # What a worker that has joined says, and Dask says of it.

    def answered(self, worker: str, number: int, answer: bytes) -> None:
        """Pass an answer on, as it is."""
        self._heard[worker] = time.monotonic()
        self._tell(wire.pack_answer(number, answer))

    def leaving(self, worker: str) -> None:
        """Tell the daemon that a worker takes no more; what it holds it still answers."""
        self._tell(wire.pack(wire.LEAVING, worker))

    def joined(self, worker: str, ticket: str) -> None:
        """Take in a worker that has been let in; any other is sent away."""
        admitted = self._admitted.pop(ticket, None)
        if admitted is None:
            self._remove(worker)
            return
        self._heard[worker] = time.monotonic()
        self._tell(wire.pack(wire.JOINED, wire.Joined(worker, *admitted)))

    def left(self, worker: str) -> None:
        """Tell the daemon that a worker has gone."""
        if self._heard.pop(worker, None) is not None:
            self._tell(wire.pack(wire.LEFT, worker))

    def _remove(self, worker: str) -> None:
        assert self._scheduler is not None
        removing = self._scheduler.remove_worker(worker, stimulus_id="bt-daemon", close=True)
        task = asyncio.ensure_future(removing)
        self._removing.add(task)
        task.add_done_callback(self._removing.discard)


class _Membership(SchedulerPlugin):
    """Hears from Dask who comes and goes."""

    def __init__(self, head: Head) -> None:
        self._head = head

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        self._head.joined(worker, str(scheduler.workers[worker].name))

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:  # noqa: ARG002
        self._head.left(worker)


def _close(probes: list[RootProbe]) -> None:
    for probe in probes:
        probe.close()
