"""Tell whether a head that cannot be joined never will be: another key, or no key on one side."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from daemon.remote.head_address import HeadAddress

_CONNECT_SECONDS = 5.0
# In TLS 1.3 a head refuses our certificate after our side of the handshake is done.
_VERDICT_SECONDS = 1.0
_SAME_KEY = "give --workers-key the file that the daemon has, on both sides"


def why_never(head: HeadAddress, key: str) -> tuple[str, str] | None:
    """Return why the head cannot be joined and what to do, None if it may only be away."""
    try:
        with socket.create_connection((head.host, head.port), _CONNECT_SECONDS) as connection:
            if head.encrypted:
                return _refused_key(connection, key)
            return ("it is encrypted", _SAME_KEY) if _speaks_tls(connection) else None
    except OSError:
        return None


def _refused_key(connection: socket.socket, key: str) -> tuple[str, str] | None:
    """Shake hands as Dask does: both sides show a certificate that the one key file vouches for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(key)
    context.load_cert_chain(key)
    try:
        with context.wrap_socket(connection) as secured:
            secured.settimeout(_VERDICT_SECONDS)
            with contextlib.suppress(TimeoutError):
                secured.recv(1)
    except ssl.SSLError as error:
        if (error.reason and "WRONG_VERSION" in error.reason) or error.reason == "RECORD_LAYER_FAILURE":
            return "it is not encrypted", "start the daemon with --workers-key too"
        if isinstance(error, ssl.SSLEOFError) or not _is_verdict(error):
            return None
        return "its key is another", _SAME_KEY
    return None


def _is_verdict(error: ssl.SSLError) -> bool:
    words = ("CERTIFICATE", "UNKNOWN_CA", "ALERT_BAD", "HANDSHAKE_FAILURE", "DECRYPT")
    return isinstance(error, ssl.SSLCertVerificationError) or any(
        word in (error.reason or "") for word in words
    )


def _speaks_tls(connection: socket.socket) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with context.wrap_socket(connection) as secured:
            return secured.version() is not None
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except OSError:
        return False
