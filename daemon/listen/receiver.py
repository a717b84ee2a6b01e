"""Decide about associations and objects, answer, and say so in the log: the C-STORE and C-ECHO provider.

No answer and no line of the log holds anything of an object: who sent how many, and why one was refused.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydicom.dataset import Dataset

from daemon.listen.callers import Callers
from daemon.listen.contexts import VERIFICATION, class_name
from daemon.listen.incoming import IncomingObject
from daemon.listen.intake import Intake
from daemon.listen.refusals import StoreRefusedError
from daemon.log import CauseLog

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.events import Event

_SUCCESS = 0x0000
_PROCESSING_FAILURE = 0x0110  # PS3.7, C.5.5
# Result, source and reason of an A-ASSOCIATE-RJ (PS3.8, table 9-21).
_UNKNOWN_CALLER = (1, 1, 3)
_UNKNOWN_CALLED = (1, 1, 7)
_CONGESTED = (2, 3, 1)
_TOO_MANY = (2, 3, 2)
# So many different causes are told apart; strangers can make up any number of titles.
_MOST_CAUSES = 1_000
_NAMES_SHOWN = 3


@dataclass(slots=True)
class _Tally:
    """What came of one association."""

    began: float = field(default_factory=time.monotonic)
    stored: int = 0
    known: int = 0
    refused: int = 0
    echoes: int = 0
    size: int = 0  # bytes stored


class Receiver:
    """The one that pynetdicom asks, from a thread for each association."""

    def __init__(
        self, title: str, callers: Callers, intake: Intake, max_associations: int, log: logging.Logger
    ) -> None:
        self.intake = intake
        self.max_associations = max_associations
        self.stopping = False
        self._title = title
        self._callers = callers
        self._log = log
        self._causes = CauseLog(log, time.monotonic)
        self._told: set[str] = set()
        self._tallies: dict[Association, _Tally] = {}
        self._lock = threading.Lock()

    def lets_connect(self, address: str) -> bool:
        """Tell whether an address may open a connection."""
        if self._callers.may_connect(address):
            return True
        self._warn(
            f"address {address}", f"a connection from {address} was closed: --allow names no such address"
        )
        return False

    def decide(self, event: Event) -> None:
        """Reject an association that is not wanted (EVT_REQUESTED)."""
        try:
            found = self._why_not(event.assoc)
        except Exception as error:  # noqa: BLE001 - pynetdicom would go on and accept
            found = _UNKNOWN_CALLER, f"a request that cannot be read ({type(error).__name__})"
        if found is None:
            return
        reason, why = found
        self._warn(why, f"refused an association: {why}")
        event.assoc.acse.send_reject(*reason)
        event.assoc.kill()  # returns when the rejection has been sent

    def accepted(self, event: Event) -> None:
        """Warn when a caller offers nothing that is taken (EVT_ACCEPTED)."""
        taken = {one.abstract_syntax for one in event.assoc.accepted_contexts}
        names = sorted({class_name(one.abstract_syntax) for one in event.assoc.rejected_contexts})
        if not names or taken - {VERIFICATION}:
            return
        shown = ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
        who = _who(event.assoc)
        self._warn(f"nothing {who}", f"{who} offers nothing that is taken here: {shown} (see --any-modality)")

    def echo(self, event: Event) -> int:
        """Answer a C-ECHO (EVT_C_ECHO)."""
        if tally := self._tallies.get(event.assoc):
            tally.echoes += 1
        return _SUCCESS

    def store(self, event: Event) -> Dataset:
        """Answer a C-STORE when its object is on the disk under its own name (EVT_C_STORE)."""
        request: Any = event.request
        messages: Any = event.assoc.dimse
        what = request.DataSet
        tally = self._tallies.get(event.assoc) or _Tally()
        try:
            is_new = isinstance(what, IncomingObject) and what.place()
        except StoreRefusedError as refused:
            return self._refusal(event, tally, refused)
        except Exception as error:  # noqa: BLE001 - whatever happened, it is not stored
            why = f"it could not be filed ({type(error).__name__})"
            return self._refusal(event, tally, StoreRefusedError(_PROCESSING_FAILURE, why))
        finally:
            messages.answered(what)
        tally.stored += is_new
        tally.known += not is_new
        tally.size += what.size
        return _answer(_SUCCESS)

    def tell_end(self, association: Association) -> None:
        """Say in one line what came of an association."""
        with self._lock:
            tally = self._tallies.pop(association, None)
        if tally is None:
            return
        told = [f"{tally.stored} stored"]
        told += [f"{tally.known} were here already"] if tally.known else []
        told += [f"{tally.refused} refused"] if tally.refused else []
        told += [f"{tally.echoes} C-ECHO"] if tally.echoes else []
        how = "released" if association.is_released else "broken off"
        self._log.info(
            "%s: %s, %.1f MB in %.1f s, %s",
            _who(association), ", ".join(told), tally.size / 1e6, time.monotonic() - tally.began, how,
        )  # fmt: skip

    def tell_failed(self, address: str, why: str) -> None:
        """Say that a connection failed. `why` is no text of an exception: that may quote what was sent."""
        self._warn(f"failed {address} {why}", f"a connection from {address} failed ({why})")

    def _why_not(self, association: Association) -> tuple[tuple[int, int, int], str] | None:
        request: Any = association.requestor.primitive
        calling, called = request.calling_ae_title.strip(), request.called_ae_title.strip()
        address = association.requestor.address
        who = f"{calling} at {address}"
        if not self._callers.allow(calling, address):
            return _UNKNOWN_CALLER, f"{who} is not allowed; --allow {calling}@{address} lets it in"
        if called != self._title:
            return _UNKNOWN_CALLED, f"{who} calls {called}, and this is {self._title}"
        if self.stopping:
            return _CONGESTED, f"{who} comes too late, the listener is stopping"
        with self._lock:
            if len(self._tallies) >= self.max_associations:
                return _TOO_MANY, f"{who} is one more than the {self.max_associations} of --max-associations"
            self._tallies[association] = _Tally()
        return None

    def _refusal(self, event: Event, tally: _Tally, refused: StoreRefusedError) -> Dataset:
        tally.refused += 1
        name = class_name(event.request.AffectedSOPClassUID)
        who = _who(event.assoc)
        self._warn(
            f"{who} {refused.why}",
            f"refused an object of {who} (0x{refused.status:04X}, {name}): {refused.why}",
        )
        return _answer(refused.status, refused.why)

    def _warn(self, cause: str, message: str) -> None:
        with self._lock:
            self._told.add(cause)
            if len(self._told) > _MOST_CAUSES:
                self._told.clear()
                self._causes = CauseLog(self._log, time.monotonic)
            self._causes(cause, message)


def _who(association: Association) -> str:
    return f"{association.requestor.ae_title.strip() or '?'} at {association.requestor.address}"


def _answer(status: int, comment: str = "") -> Dataset:
    answer = Dataset()
    answer.Status = status
    if comment:
        answer.ErrorComment = comment
    return answer
