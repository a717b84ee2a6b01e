"""Errors of a PostgreSQL server in our words: which of them pass by themselves."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from storage.database_errors import (
    DatabaseBusyError,
    DatabaseCorruptError,
    DatabaseFullError,
    DatabaseMissingError,
    DatabaseUnavailableError,
    DatabaseUnwritableError,
    StorageError,
    database_errors,
)

psycopg = pytest.importorskip("psycopg", reason="needs the extra postgresql")

PLACE = "postgresql://me@host/bt"


def _told(error: Exception) -> StorageError:
    with pytest.raises(StorageError) as caught, database_errors(PLACE):
        raise sa.exc.DBAPIError.instance("SELECT 1", (), error, psycopg.Error)
    return caught.value


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("08006", DatabaseUnavailableError),
        ("57P01", DatabaseUnavailableError),
        ("57P02", DatabaseUnavailableError),
        ("57P03", DatabaseUnavailableError),
        ("53100", DatabaseFullError),
        ("53200", DatabaseUnavailableError),
        ("53300", DatabaseUnavailableError),
        ("58030", DatabaseUnavailableError),
        ("40001", DatabaseBusyError),
        ("40P01", DatabaseBusyError),
        ("55P03", DatabaseBusyError),
        ("57014", DatabaseBusyError),
    ],
)
def test_what_passes_by_itself_is_transient(state: str, kind: type[StorageError]) -> None:
    told = _told(psycopg.errors.lookup(state)("it says"))

    assert type(told) is kind
    assert told.transient
    assert PLACE in told.what


@pytest.mark.parametrize(
    ("state", "kind", "hint"),
    [
        ("28P01", DatabaseUnwritableError, "~/.pgpass"),
        ("28000", DatabaseUnwritableError, "~/.pgpass"),
        ("3D000", DatabaseMissingError, "createdb"),
        ("42501", DatabaseUnwritableError, "own"),
        ("25006", DatabaseUnwritableError, "--db"),
        ("XX001", DatabaseCorruptError, "pg_restore"),
    ],
)
def test_what_somebody_has_to_mend_is_not_and_says_how(
    state: str, kind: type[StorageError], hint: str
) -> None:
    told = _told(psycopg.errors.lookup(state)("it says"))

    assert type(told) is kind
    assert not told.transient
    assert hint in told.hint


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ('connection to server at "h", port 1 failed: Connection refused', DatabaseUnavailableError),
        ("server closed the connection unexpectedly", DatabaseUnavailableError),
        ("FATAL:  the database system is starting up", DatabaseUnavailableError),
        ("FATAL:  sorry, too many clients already", DatabaseUnavailableError),
        ('FATAL:  password authentication failed for user "me"', DatabaseUnwritableError),
        ("fe_sendauth: no password supplied", DatabaseUnwritableError),
        ('FATAL:  no pg_hba.conf entry for host "1.2.3.4"', DatabaseUnwritableError),
        ('FATAL:  role "me" does not exist', DatabaseUnwritableError),
        ('FATAL:  database "bt" does not exist', DatabaseMissingError),
    ],
)
def test_a_session_that_could_not_be_opened_has_words_instead_of_a_state(
    said: str, kind: type[StorageError]
) -> None:
    told = _told(psycopg.OperationalError(said))

    assert type(told) is kind
    assert told.transient is (kind is DatabaseUnavailableError)


@pytest.mark.parametrize("state", ["22P02", "23505", "23503", "42601", "42P01"])
def test_a_fault_of_ours_is_shown_as_it_is(state: str) -> None:
    with pytest.raises(sa.exc.DBAPIError), database_errors(PLACE):
        raise sa.exc.DBAPIError.instance("SELECT 1", (), psycopg.errors.lookup(state)("no"), psycopg.Error)
