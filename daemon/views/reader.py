"""Open the database that the settings name, for a reading command."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from config.options import Invocation

if TYPE_CHECKING:
    import sqlalchemy as sa

Row = TypeVar("Row")


@contextmanager
def reader(invocation: Invocation) -> Iterator[sa.Connection | None]:
    """Open the database for reading; None if nobody named one and the default one is still to come.

    A database that was named and is not there is an error: most likely the name is misspelt.
    """
    from storage.database import open_reader
    from storage.database_errors import DatabaseMissingError

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


@contextmanager
def streamed(rows: Iterable[Row]) -> Iterator[Iterable[Row]]:
    """Hand on rows that are read as they are used, and end their transaction when they no longer are.

    Else an exception (a closed pipe) keeps them alive until after their connection is closed.
    """
    try:
        yield rows
    finally:
        if (close := getattr(rows, "close", None)) is not None:
            close()
