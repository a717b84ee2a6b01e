"""The weights that judged the rows of a database, kept beside it and found again by their hash.

    results.db-models/<sha256 of the file>.safetensors

Beside the database (of one on a server: in the user's data folder), as its log and its lock are: whoever
has the database has the models of its rows, and `db prune` can tell from one database alone which of them
nobody names any more. What is read from here is checked against its name first, so no row is ever explained
by another model than its own.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from config.errors import WeightsError
from config.files import atomic_write
from config.paths import default_database
from config.text import printable
from trainer.model.identity import MAX_BYTES, check_weights_file, default_weights, weights_sha256

if TYPE_CHECKING:
    import logging

_SUFFIX = ".safetensors"
_CHUNK_BYTES = 1 << 20


def models_folder(database: Path) -> Path:
    """Return the folder of the models that judged a database's rows; it need not exist."""
    return database.with_name(f"{database.name}-models")


def keep_model(weights: Path, sha256: str, database: Path, logger: logging.Logger) -> None:
    """Keep a weights file with this hash beside the database, once; what prevents it is one warning."""
    place = models_folder(database) / f"{sha256}{_SUFFIX}"
    try:
        if not _is_whole(place, sha256):
            _copy(weights, sha256, place)
    except (OSError, WeightsError) as error:
        why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        logger.warning(
            "the model cannot be kept in %s (%s); its heatmaps and figures will need the weights file itself",
            printable(str(place.parent)),
            printable(why),
        )


def find_model(sha256: str, database: Path, given: Path | None) -> Path | None:
    """Return a file with exactly the weights that have this hash, None if there is none here.

    It is looked for beside the database, then at `given` (the settings' weights), then in the package.
    """
    kept = models_folder(database) / f"{sha256}{_SUFFIX}"
    places = [kept, *([given] if given is not None else []), default_weights()]
    return next((place for place in places if _is_whole(place, sha256)), None)


def kept_models(database: Path) -> list[str]:
    """Return the hashes of the models that are kept beside the database, sorted."""
    return sorted(path.stem for path in models_folder(database).glob(f"*{_SUFFIX}"))


def copy_models(source: Path, target: Path) -> tuple[int, str]:
    """Keep the models that lie beside one database beside another too, which has them once it is their copy.

    Returns how many are there now, and what kept the others from it, for people; "" for nothing.
    """
    copied, trouble = 0, ""
    for sha256 in kept_models(source):
        kept, place = (models_folder(one) / f"{sha256}{_SUFFIX}" for one in (source, target))
        try:
            if not _is_whole(place, sha256):
                _copy(kept, sha256, place)
            copied += 1
        except (OSError, WeightsError) as error:
            trouble = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    return copied, printable(trouble)


def forget_models(database: Path, named: Collection[str]) -> int:
    """Delete the kept models whose hash is not `named`, and what a crash left; return how many models."""
    forgotten = 0
    for path in models_folder(database).glob("*"):
        if path.stem in named and path.suffix == _SUFFIX:
            continue
        with contextlib.suppress(OSError):
            path.unlink()
            forgotten += path.suffix == _SUFFIX
    with contextlib.suppress(OSError):  # not empty, or not there
        models_folder(database).rmdir()
    return forgotten


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        return weights_sha256(path) == sha256
    except WeightsError:
        return False


def _copy(weights: Path, sha256: str, place: Path) -> None:
    """Copy atomically, for the owner only; raise WeightsError if the file is no longer what was hashed."""
    check_weights_file(weights)
    if place.parent.parent == default_database().parent:
        place.parent.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if weights.stat().st_size > shutil.disk_usage(place.parent.parent).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # rather than take the database's last room
    place.parent.mkdir(mode=0o700, exist_ok=True)
    with atomic_write(place) as target, weights.open("rb") as source:
        digest, left = hashlib.sha256(), MAX_BYTES
        while left > 0 and (data := source.read(min(left, _CHUNK_BYTES))):
            digest.update(data)
            target.write(data)
            left -= len(data)
        if digest.hexdigest() != sha256:
            raise WeightsError(f"{printable(str(weights))} has changed since it was opened")
