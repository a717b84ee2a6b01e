"""A folder that an option names: made if need be, but none above it."""

from __future__ import annotations

import os
from pathlib import Path

from config.errors import UsageError
from config.text import printable


def made_folder(place: Path, option: str) -> Path:
    """Return the folder as an absolute path, made if its parent is there; raise UsageError (exit 2).

    A parent that is missing is most likely misspelt, or a disk that is not mounted.
    """
    place = place.absolute()
    try:
        place.mkdir(exist_ok=True, mode=0o700)  # pictures of patients
        if os.access(place, os.W_OK | os.X_OK):
            return place
        why = "not writable"
    except FileExistsError:
        why = "not a folder"
    except FileNotFoundError:
        why = f"there is no {printable(str(place.parent))}"
    except OSError as error:
        why = error.strerror or str(error)
    raise UsageError(
        f"nothing can be written to the folder {printable(str(place))} ({why})",
        hint=f"give {option} another one",
    )
