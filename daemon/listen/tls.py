"""Make the TLS side of a listener from files: its certificate and key, and who may be asked for theirs."""

from __future__ import annotations

import ssl
from pathlib import Path

from config.errors import UsageError
from config.text import printable


def server_context(
    certificate: Path | None, key: Path | None, authorities: Path | None
) -> ssl.SSLContext | None:
    """Return the context, None without a certificate; raise UsageError for files that cannot serve.

    With `authorities` every caller has to show a certificate that one of them signed. TLS 1.2 at least
    (PS3.15, B.9: BCP 195).
    """
    if certificate is None:
        if key is not None or authorities is not None:
            raise UsageError(
                "TLS needs a certificate of this listener", hint="give --tls-cert, and --tls-key"
            )
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except OSError as error:  # SSLError is one
        raise _unusable(key or certificate, "certificate and key", error) from None
    if authorities is not None:
        try:
            context.load_verify_locations(authorities)
        except OSError as error:
            raise _unusable(authorities, "certificates of authorities", error) from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _no_password() -> str:
    """Answer for an encrypted key: a listener has nobody to ask."""
    raise UsageError(
        "the key of --tls-key is encrypted, and a listener has nobody to ask for its password",
        hint="store it decrypted, readable for the listener alone: openssl pkey -in KEY -out FILE",
    )


def _unusable(path: Path, what: str, error: OSError) -> UsageError:
    why = error.strerror if not isinstance(error, ssl.SSLError) else error.reason or "not PEM"
    return UsageError(
        f"no {what} can be read from {printable(str(path))} ({why})", hint="TLS takes PEM files"
    )
