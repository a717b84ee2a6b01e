"""How a reading command opens the database that the settings name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from config.options import Invocation

if TYPE_CHECKING:
    import sqlalchemy as sa


@contextmanager
def reader(invocation: Invocation) -> Iterator[sa.Connection | None]:
    """Open the database for reading; None if nobody named one and the default one is still to come.

    A database that was named and is not there is an error: most likely the name is misspelt.
    """
    from storage.database import open_reader
    from storage.errors import DatabaseMissingError

    resolved = invocation.resolve()
    try:
        connection = open_reader(resolved.settings.db)
    except DatabaseMissingError:
        if resolved.sources["db"] != "default":
            raise
        yield None
        return
    try:
        yield connection
    finally:
        connection.close()
