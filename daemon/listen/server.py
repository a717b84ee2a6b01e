"""Accept connections: TLS first, then an association of its own for each, and its end."""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import threading
import time
from socketserver import BaseServer
from typing import TYPE_CHECKING, Any

from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from daemon.listen.association import BoundedReader, Messages

if TYPE_CHECKING:
    from pynetdicom.association import Association

    from daemon.listen.receiver import Receiver

_HANDSHAKE_SECONDS = 15.0
# Connections that have not become associations, beyond the associations that are allowed.
_SPARE_CONNECTIONS = 16
_REST_SECONDS = 0.1


class AssociationHandler(RequestHandler):
    """One connection from its beginning to its end, in a thread of its own."""

    server: ListenServer

    def handle(self) -> None:
        """Make an association of a connection, and clear up when it has ended."""
        address = self.remote.address
        if isinstance(self.request, ssl.SSLSocket):
            try:
                self.request.settimeout(_HANDSHAKE_SECONDS)
                self.request.do_handshake()
            except OSError as error:
                self.server.receiver.tell_failed(address, type(error).__name__)
                return
        association = self._create_association()
        association.daemon = association.dul.daemon = True
        transport: Any = association.dul.socket
        transport.recv = BoundedReader(self.request).read
        messages = association.dimse = Messages(association, self.server.receiver)
        self.server.running[association] = messages
        try:
            association.start()
            association.join()
        finally:
            self.server.running.pop(association, None)
            messages.discard()
            self.server.receiver.tell_end(association)

    def finish(self) -> None:
        """Close the connection, whatever came of it."""
        with contextlib.suppress(OSError):
            self.request.close()


class ListenServer(ThreadedAssociationServer):
    """The door: who may connect at all is decided before a byte is read."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, receiver: Receiver, **options: Any) -> None:
        """Bind and listen, with the options of pynetdicom's server; raises OSError."""
        self.receiver = receiver
        self.running: dict[Association, Messages] = {}
        self._connections = threading.BoundedSemaphore(receiver.max_associations + _SPARE_CONNECTIONS)
        super().__init__(request_handler=AssociationHandler, **options)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Return a connection; its TLS handshake is left to its own thread."""
        try:
            door: Any = self.socket
            connection, address = door.accept()
        except OSError:
            time.sleep(_REST_SECONDS)  # no descriptors left: the next try comes at once
            raise
        if self.ssl_context is not None:
            try:
                connection = self.ssl_context.wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                )
            except OSError:  # gone again
                connection.close()
                raise
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - socketserver's
        """Tell whether a connection gets a thread; if not it is closed."""
        if not self.receiver.lets_connect(client_address[0]):
            return False
        if self._connections.acquire(blocking=False):
            return True
        self.receiver.tell_failed(client_address[0], "too many at a time")
        return False

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - socketserver's
        """Tell of a connection that failed in one line: a traceback may quote what was sent."""
        kind = sys.exc_info()[0]
        self.receiver.tell_failed(client_address[0], kind.__name__ if kind is not None else "?")

    def shutdown(self) -> None:
        """Take no more connections; associations go on."""
        BaseServer.shutdown(self)
        self.server_close()
