"""A real `bt-daemon listen` in its own process, and callers that send to it."""

from __future__ import annotations

import contextlib
import io
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import Dataset, config, dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationSocket

from tests.conftest import REPOSITORY
from tests.support.daemons import PATIENCE_SECONDS, until
from tests.support.dicom_objects import MR_IMAGE

TITLE = "BT_DAEMON"
CALLER = "SCANNER1"


def _close(self: AssociationSocket) -> None:
    """Close a caller's socket even where it cannot be shut down any more, as pynetdicom's own does not."""
    found = self.socket
    if found is not None:
        with contextlib.suppress(OSError):
            found.shutdown(socket.SHUT_RDWR)
        found.close()


# Else warnings about sockets that nobody closed come up in whatever test runs when they are collected.
AssociationSocket._shutdown_socket = _close  # type: ignore[method-assign]


class Listener:
    """A listener; `log` is the file its lines go to."""

    def __init__(self, inbox: Path, *options: str | Path, port: int = 0) -> None:
        self.log = inbox.with_name(f"{inbox.name}.listen.log")
        self._began = self.log.stat().st_size if self.log.exists() else 0
        arguments = ["listen", inbox, "--port", port, "--min-free", "0", *options]
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "daemon.cli", *map(str, arguments)],
                cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            )  # fmt: skip
        until(lambda: "listening on" in self.said() or self.process.poll() is not None)
        found = re.search(r"listening on \S+ port (\d+)", self.said())
        if found is None:
            raise AssertionError(f"the listener ended: {self.said()}")
        self.port = int(found[1])

    def said(self) -> str:
        """Return its lines."""
        return self.log.read_bytes()[self._began :].decode()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)

    def kill(self) -> None:
        """Kill without warning."""
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)

    def until_it_says(self, words: str) -> None:
        """Wait for a line."""
        until(lambda: words in self.said(), 20)


@contextmanager
def listening(inbox: Path, *options: str | Path, port: int = 0) -> Iterator[Listener]:
    """Run `bt-daemon listen` until the block ends."""
    listener = Listener(inbox, *options, port=port)
    try:
        yield listener
    finally:
        if listener.process.poll() is None:
            listener.kill()


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


def caller(contexts: Sequence[tuple[str, str]], title: str = CALLER, patience: float = 30) -> AE:
    """Return a caller that proposes (SOP class, transfer syntax) pairs; it waits `patience` seconds."""
    entity = AE(ae_title=title)
    for sop_class, syntax in dict.fromkeys(contexts):
        entity.add_requested_context(sop_class, syntax)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = patience
    return entity


def proposed(paths: Sequence[Path]) -> list[tuple[str, str]]:
    """Return what a caller proposes for its files."""
    heads = [dcmread(path, specific_tags=["SOPClassUID"], stop_before_pixels=True) for path in paths]
    return [(str(head.SOPClassUID), str(head.file_meta.TransferSyntaxUID)) for head in heads]


@contextmanager
def associated(port: int, entity: AE, called: str = TITLE, **options: Any) -> Iterator[Association]:
    """Hold an association, which may have been rejected, until the block ends."""
    association = entity.associate("127.0.0.1", port, ae_title=called, **options)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def send(port: int, paths: Sequence[Path], **options: Any) -> list[Dataset]:
    """Send files over one association and return the answers."""
    with associated(port, caller(proposed(paths)), **options) as association:
        assert association.is_established
        return [association.send_c_store(path) for path in paths]


def statuses(answers: Sequence[Dataset]) -> list[int]:
    """Return the status of each answer, -1 for none."""
    return [int(answer.Status) if "Status" in answer else -1 for answer in answers]


def data_set(dataset: Dataset) -> bytes:
    """Return a data set as it goes over the network, explicit little-endian."""
    stream = DicomBytesIO()
    stream.is_implicit_VR, stream.is_little_endian = False, True
    write_dataset(stream, Dataset({element.tag: element for element in dataset}))
    return stream.getvalue()


def begin_store(association: Association, instance: str, data: bytes, *, last: bool = False) -> None:
    """Send a C-STORE request for an MR image and the beginning of its data set, or all of it."""
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = UID(MR_IMAGE)
    request.AffectedSOPInstanceUID = UID(instance, config.IGNORE)
    request.Priority = 0
    request.DataSet = io.BytesIO(b"\0\0")
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    context = association.accepted_contexts[0].context_id
    assert context is not None
    parts: list[Any] = list(message.encode_msg(context, 0))
    command = [part for part in parts if part.presentation_data_value_list[0][1][0] & 1]
    fragment: Any = P_DATA()
    fragment.presentation_data_value_list = [[context, (b"\2" if last else b"\0") + data]]
    for one in (*command, fragment):
        association.dul.send_pdu(one)


def raw_store(association: Association, instance: str, data: bytes) -> int:
    """Send a C-STORE request with any instance and any data set; return the status of the answer."""
    association._reactor_checkpoint.clear()
    while not association._is_paused:
        time.sleep(0.01)
    begin_store(association, instance, data, last=True)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    return int(getattr(answer, "Status", -1))
