"""HTTP connections that cannot keep others out: who asks for nothing gives way to who asks.

uvicorn counts every open connection against its limit and waits for a request for ever.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

# Requests being answered at one moment; those beyond are told 503.
_MOST_ANSWERED = 64
# Connections on which nothing is being answered; a browser opens six.
_MOST_WAITING = 256
_MOST_WAITING_OF_ONE = 64  # of one address
_HEAD_SECONDS = 10.0  # for a whole request head, from the connection or the last answer on


class Connection(H11Protocol):
    """A connection that is closed when no whole request head comes in time.

    Of too many that wait, of one address or of all, the one that has waited longest is closed.
    """

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.waiting_since: float | None = None  # seconds of the loop's clock; None while it is answered
        self._deadline: asyncio.TimerHandle | None = None
        self._unsent = 0  # bytes of an answer that the other end had not taken at the last look

    @property
    def address(self) -> str:
        """Return who is at the other end, without the port."""
        return self.client[0] if self.client else ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request; the one that has waited longest may have to go."""
        super().connection_made(transport)
        self._wait()
        waiting = [one for one in _own(self.connections) if one.waiting_since is not None]
        of_one = [one for one in waiting if one.address == self.address]
        if len(of_one) > _MOST_WAITING_OF_ONE:
            _longest(of_one).drop()
        elif len(waiting) > _MOST_WAITING:
            _longest(waiting).drop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._stop_waiting()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Answer what has come; only requests count against the limit, not connections."""
        self.limit_concurrency = None if len(self.tasks) < _MOST_ANSWERED else 0
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """Wait for the next request, until which the answer must have been taken too."""
        self._wait()
        super().on_response_complete()

    def drop(self) -> None:
        """Close at once, whatever was not sent."""
        self._stop_waiting()
        self.connections.discard(self)
        self.transport.abort()

    def _wait(self) -> None:
        self._stop_waiting()
        self.waiting_since = self.loop.time()
        self._unsent = self.transport.get_write_buffer_size()
        self._deadline = self.loop.call_later(_HEAD_SECONDS, self._late)

    def _stop_waiting(self) -> None:
        self.waiting_since = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        if not 0 < unsent < self._unsent:
            self.drop()
            return
        # A slow line still takes the last answer.
        self._unsent = unsent
        self._deadline = self.loop.call_later(_HEAD_SECONDS, self._late)


def _own(connections: Iterable[object]) -> list[Connection]:
    return [cast("Connection", one) for one in connections]


def _longest(waiting: list[Connection]) -> Connection:
    return min(waiting, key=lambda one: one.waiting_since or 0.0)
