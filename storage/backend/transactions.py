"""Transactions: one that writes, or one consistent view, with errors in our words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import sqlalchemy as sa

from storage.backend.backend import backend_of
from storage.database_errors import database_errors

# Key of a connection's `info`: how the next transaction begins, where it is not one that writes.
BEGIN = "begin"


@contextmanager
def writing(connection: sa.Connection) -> Iterator[None]:
    """One transaction: all of it is committed at the end, or none of it after any exception."""
    with _errors(connection):
        transaction = connection.begin()
        try:
            yield
            transaction.commit()
        except BaseException:
            _roll_back(connection, transaction)
            raise


@contextmanager
def reading(connection: sa.Connection) -> Iterator[None]:
    """One consistent view of the database, released at the end; no write lock is taken.

    Within another `reading` or `writing` of the same connection it joins that one.
    """
    if connection.in_transaction():
        with _errors(connection):
            yield
        return
    with _errors(connection):
        info = connection.info  # taken now: the connection may be closed before an iterator in here is
        info[BEGIN] = True
        try:
            transaction = connection.begin()
            try:
                yield
            finally:
                _roll_back(connection, transaction)
        finally:
            info.pop(BEGIN, None)


def begin_with(engine: sa.Engine, write: str, view: str) -> None:
    """Let transactions of an engine begin with the statement `write`, and within `reading` with `view`."""

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(view if connection.info.get(BEGIN) else write)


def _roll_back(connection: sa.Connection, transaction: sa.RootTransaction) -> None:
    """Undo, whatever state a failed commit left the connection in; the first error is the one that counts."""
    if connection.closed:  # an iterator over rows that outlived its connection
        return
    try:
        transaction.rollback()
    except (sa.exc.SQLAlchemyError, sqlite3.Error):
        backend_of(connection).give_up(connection)


def _errors(connection: sa.Connection) -> AbstractContextManager[None]:
    backend = backend_of(connection)
    return database_errors(backend.place_of(connection), lambda: backend.is_sound(connection))
