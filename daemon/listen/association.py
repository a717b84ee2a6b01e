"""Bound associations of pynetdicom: connection, PDUs and messages take little memory, and all of them end.

By itself pynetdicom reads a PDU of whatever length it announces, waits for the rest of it for ever, and keeps
a message in memory until it is complete.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, Any

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage

from daemon.listen.file_meta import Announced
from daemon.listen.incoming import IncomingObject
from daemon.listen.refusals import CANNOT_UNDERSTAND, StoreRefusedError

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.pdu_primitives import P_DATA

    from daemon.listen.receiver import Receiver

# What callers are told to send at most, and what is read of one who does not listen.
PDU_BYTES = 128 << 10
_MOST_PDU_BYTES = 1 << 20
_MOST_COMMAND_BYTES = 64 << 10
# How long a PDU that has begun may take.
_PDU_SECONDS = 60.0
# Requests that wait for their answers: a caller sends one at a time unless more were agreed on, and none are.
_MOST_WAITING = 4


class BoundedReader:
    """Reads from a connection what a PDU announces, if that is neither too much nor too slow."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        connection.settimeout(_PDU_SECONDS)

    def read(self, size: int) -> bytearray:
        """Return `size` bytes, fewer where the connection ends; raise OSError for too much or too slow."""
        if size > _MOST_PDU_BYTES:
            raise ConnectionError("a PDU beyond all limits")
        data = bytearray(size)
        got, deadline = 0, time.monotonic() + _PDU_SECONDS
        with memoryview(data) as view:
            while got < size:
                count = self._connection.recv_into(view[got:])
                if not count:
                    return bytearray(view[:got])
                got += count
                if time.monotonic() > deadline:
                    raise TimeoutError("a PDU that does not end")
        return data


class Messages(DIMSEServiceProvider):
    """The messages of one association: data sets go to the disk as they come."""

    def __init__(self, association: Association, receiver: Receiver) -> None:
        super().__init__(association)
        self._receiver = receiver
        self._objects: list[IncomingObject] = []  # begun and not answered
        self._command_bytes = 0

    @property
    def busy(self) -> bool:
        """Whether an object is being received or answered."""
        return bool(self._objects)

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take fragments of a message; what cannot be one ends the association with an A-ABORT."""
        try:
            self._check(primitive)
            if self.message is None:
                self.message = message = DIMSEMessage()
                message.data_set = IncomingObject(self._receiver.intake, lambda: self._announced(message))
            super().receive_primitive(primitive)
        except Exception:  # noqa: BLE001 - a broken message raises anything
            self.dul.event_queue.put("Evt19")  # an invalid PDU (PS3.8, table 9-6)

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Send an answer, the last one if the listener is to stop."""
        super().send_msg(primitive, context_id)
        if self._receiver.stopping:
            self.assoc.abort(block=False)

    def answered(self, what: IncomingObject) -> None:
        """Forget an object; what was not stored leaves nothing behind."""
        what.discard()
        with contextlib.suppress(ValueError):  # a stop and the association's own end may both forget it
            self._objects.remove(what)

    def discard(self) -> None:
        """Forget all objects."""
        for what in list(self._objects):
            self.answered(what)

    def _check(self, primitive: P_DATA) -> None:
        if self.msg_queue.qsize() > _MOST_WAITING:
            raise ConnectionError("requests that wait for no answers")
        if self.message is None:
            self._command_bytes = 0
        for _, data in primitive.presentation_data_value_list:
            self._command_bytes += len(data) if data[0] & 1 else 0
        if self._command_bytes > _MOST_COMMAND_BYTES:
            raise ConnectionError("a command that does not end")

    def _announced(self, message: DIMSEMessage) -> Announced:
        """Return what a C-STORE request says; its data set begins."""
        if not isinstance(message, C_STORE_RQ) or not isinstance(message.data_set, IncomingObject):
            raise StoreRefusedError(CANNOT_UNDERSTAND, "no C-STORE request")
        self._objects.append(message.data_set)
        command: Any = message.command_set
        context = next(one for one in self.assoc.accepted_contexts if one.context_id == message.context_id)
        return Announced(
            str(command.AffectedSOPClassUID), str(command.AffectedSOPInstanceUID), context.transfer_syntax[0]
        )
