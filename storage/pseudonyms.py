"""Pseudonyms of patients, studies and series: keyed hashes (BLAKE2b) with a secret of one database alone.

Equal identifiers have equal pseudonyms within a database and different ones in another, and none can be
turned back without the secret. The secret lies in the database, so that a restored backup goes on with the
same pseudonyms: whoever has the file can test guesses. What is exported does not carry it.
"""

from __future__ import annotations

import hashlib

SECRET_BYTES = 32
PSEUDONYM_BYTES = 16


def pseudonym(secret: bytes, kind: str, *identifiers: str | bytes) -> bytes:
    """Return the 16 bytes that stand for identifiers, each within the one before, of a kind ("patient")."""
    hashed = hashlib.blake2b(key=secret, digest_size=PSEUDONYM_BYTES, person=kind.encode())
    for part in identifiers:
        text = part if isinstance(part, bytes) else part.encode(errors="surrogateescape")
        hashed.update(len(text).to_bytes(8, "little") + text)
    return hashed.digest()
