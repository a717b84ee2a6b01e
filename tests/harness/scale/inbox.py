"""Many small images in memory that every host sees, no two alike, and what became of each in the database."""

from __future__ import annotations

import hashlib
import io
import sqlite3
import struct
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.support.databases import is_server, raw
from trainer.images.phantom import phantom

_PER_FOLDER = 1000
_ERROR = 3  # status code of an error row


def fill(folder: Path, images: int) -> dict[str, bytes]:
    """Write PNG files of 64 x 64 pixels into subfolders; return the SHA-256 of each by its name."""
    stream = io.BytesIO()
    phantom(1, lesion=True, size=64, label=False).save(stream, "PNG")
    png = stream.getvalue()
    digests = {}
    for number in range(images):
        text = b"Comment\0%08d" % number
        chunk = struct.pack("!I", len(text)) + b"tEXt" + text + struct.pack("!I", zlib.crc32(b"tEXt" + text))
        content = png[:-12] + chunk + png[-12:]  # before IEND
        name = f"{number:08}.png"
        place = folder / f"{number // _PER_FOLDER:04}" / name
        if number % _PER_FOLDER == 0:
            place.parent.mkdir(parents=True)
        place.write_bytes(content)
        digests[name] = hashlib.sha256(content).digest()
    return digests


@dataclass(frozen=True, slots=True)
class Count:
    """How the rows of a database differ from one right row an image; all 0 if they do not."""

    lost: int  # images without a row
    doubled: int  # rows more than images have
    errors: int  # images whose row is an error
    wrong: int  # rows with the digest of another image


def compare(database: str, digests: dict[str, bytes]) -> Count:
    """Return what is wrong with the rows of a database."""
    told = raw(
        database,
        "SELECT file.name, result.sha256, result.status FROM result JOIN file ON file.id = result.file_id",
    )
    rows = [(bytes(name).decode(), digest, status) for name, digest, status in told]
    per_image = Counter(name for name, _, _ in rows)
    return Count(
        lost=len(digests.keys() - per_image.keys()),
        doubled=sum(per_image.values()) - len(per_image),
        errors=sum(status == _ERROR for _, _, status in rows),
        wrong=sum(status != _ERROR and digests.get(name) != digest for name, digest, status in rows),
    )


def stored(database: str) -> int | None:
    """Return how many rows there are, None while the database is not there or does not answer."""
    if not (is_server(database) or Path(database).exists()):
        return None
    try:
        return int(raw(database, "SELECT count(*) FROM result")[0][0])
    except sqlite3.OperationalError:
        return None
    except Exception as error:
        if is_server(database) and type(error).__module__.startswith("psycopg"):
            return None
        raise


def times_stored(database: str) -> list[float]:
    """Return when each row was written, seconds since the epoch, in order."""
    found = raw(database, "SELECT completed_us FROM result ORDER BY 1")
    return [microseconds / 1e6 for (microseconds,) in found]
