"""Write a folder of several files that appears when it is complete, and never over what is not an export."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from config.errors import BtError, UsageError
from config.text import printable

_OVERWRITE = "name a new folder, or write over an earlier export with --overwrite"


def check_export_folder(folder: Path, is_earlier: Callable[[Path], bool], *, overwrite: bool) -> None:
    """Raise UsageError or BtError, before the work for it is done, if an export may not or cannot go there.

    A folder that is new or empty may always be written; one that `is_earlier` knows for an export of the
    same kind only with `overwrite`; any other never.
    """
    shown = printable(str(folder))
    try:
        is_filled = any(folder.iterdir()) if os.path.lexists(folder) else False
        tempfile.TemporaryFile(dir=folder.absolute().parent).close()
    except OSError as error:
        raise _cannot_write(folder, error) from error
    if is_filled and not overwrite:
        raise UsageError(f"{shown} is not empty", hint=_OVERWRITE)
    if is_filled and not is_earlier(folder):
        raise UsageError(
            f"{shown} holds something else than an earlier export, which --overwrite leaves alone",
            hint="name a new folder",
        )


@contextmanager
def export_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder whose content goes to `folder` when the block ends without an error.

    A new folder gets its name at once; in one that is there already each file takes the place of the earlier
    one of its name. All is readable by its owner only: it may name patients. Raises BtError.
    """
    try:
        made = Path(
            tempfile.mkdtemp(dir=folder.absolute().parent, prefix=f".{folder.name[:100]}.", suffix=".tmp")
        )
        try:
            yield made
            for path in made.rglob("*"):
                if path.is_dir():
                    path.chmod(0o700)
                elif path.lstat().st_nlink == 1:  # a file that has other names is somebody else's too
                    path.chmod(0o600)
            _put(made, folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise _cannot_write(folder, error) from error


def _put(made: Path, folder: Path) -> None:
    if not folder.is_dir() or not any(folder.iterdir()):
        os.replace(made, folder.resolve())  # resolved: a link goes on pointing to the folder
        return
    for path in sorted(made.rglob("*")):
        place = folder / path.relative_to(made)
        if path.is_dir():
            place.mkdir(mode=0o700, exist_ok=True)
        else:
            os.replace(path, place)


def _cannot_write(folder: Path, error: OSError) -> BtError:
    return BtError(
        f"cannot write {printable(str(folder))}: {error.strerror or error}", hint="choose another folder"
    )
