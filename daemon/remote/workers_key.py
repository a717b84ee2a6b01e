"""The key of a head and its workers: one PEM file, certificate and private key, the same on every machine.

The certificate vouches for itself: who has the file is trusted, and nobody else. There is no authority to
look after and nothing to renew within ten years.
"""

from __future__ import annotations

import os
import ssl
import stat
from pathlib import Path

from config.errors import UsageError
from config.text import printable

_DAYS = 3650
_MAKE = "make a key with bt-daemon worker --make-key FILE"


def make_key(path: Path) -> None:
    """Write a new key for its owner alone; raise UsageError if there is a file already, or no folder."""
    content = _new_pem()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as stream:
            stream.write(content)
    except OSError as error:
        shown = printable(str(path))
        raise UsageError(
            f"no key can be written to {shown} ({error.strerror})", hint="name a file that is not there yet"
        ) from None


def check_key(given: str) -> str:
    """Return the absolute path of a key that can be used; raise UsageError for any other file."""
    if not given:
        return ""
    path, shown = Path(given).absolute(), printable(given)
    try:
        found = path.stat()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(path)
        context.load_cert_chain(path, password=lambda: "")
    except OSError as error:  # SSLError is one
        why = "not a PEM with certificate and key" if isinstance(error, ssl.SSLError) else error.strerror
        raise UsageError(f"{shown} is no key for workers ({why})", hint=_MAKE) from None
    # As libpq has it: root's own file may be read by a group, as a Secret mounted in Kubernetes is.
    forbidden = 0o137 if found.st_uid == 0 and os.geteuid() != 0 else 0o077
    if stat.S_IMODE(found.st_mode) & forbidden:
        raise UsageError(f"others can read the key {shown}", hint=f"chmod 600 {shown}")
    return str(path)


def _new_pem() -> bytes:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bt-daemon workers")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks differ
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + private
