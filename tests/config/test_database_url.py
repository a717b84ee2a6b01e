"""Addresses of databases: told apart from files, and shown without a password."""

from __future__ import annotations

import pytest

from config.database_url import has_password, is_server_url, libpq_url, without_password

CANARY = "qu0kka"


@pytest.mark.parametrize("text", ["postgresql:///bt", "postgres://h/bt", "PostgreSQL+psycopg://u@h:5/bt?x=1"])
def test_address_of_a_server_is_told_from_a_file(text: str) -> None:
    assert is_server_url(text)
    assert libpq_url(text).startswith("postgresql://")
    assert without_password(text) == text
    assert not has_password(text)


@pytest.mark.parametrize(
    "text", ["results.db", "/a/postgresql://b", "sqlite:////a.db", "mysql://h/bt", "postgresql:"]
)
def test_anything_else_is_none(text: str) -> None:
    assert not is_server_url(text)


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://me:{CANARY}@host/db",
        f"postgresql://:{CANARY}@host/db",
        f"postgresql+psycopg://me:{CANARY}@host:5432/db?sslmode=require",
        f"postgresql://me:{CANARY}@one:1,two:2/db",
        f"postgresql://me@host/db?password={CANARY}",
        f"postgresql:///db?sslmode=disable&PassWord={CANARY}&port=1",
        f"postgresql:///db?sslpassword={CANARY}",
        # Not as libpq wants them.
        f"postgresql://me:a@{CANARY}@host/db",
        f"postgresql://me:{CANARY}/b@host/db",
        f"postgresql://me:{CANARY}?b@host/db",
        f"postgresql://me:a:{CANARY}#b@host/db",
        f"postgresql://me:a\n{CANARY}@host/db",
    ],
)
def test_no_password_is_shown_however_it_is_written(text: str) -> None:
    assert CANARY not in without_password(text)
    assert has_password(text)


def test_the_rest_of_the_address_is_shown() -> None:
    shown = without_password(f"postgresql://me:{CANARY}@host:5432/db?password={CANARY}&sslmode=require")

    assert shown == "postgresql://me:***@host:5432/db?password=***&sslmode=require"
