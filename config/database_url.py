"""Addresses of databases on a server, postgresql://HOST/DATABASE, and how any database is shown: no password.

A password is best left to libpq: PGPASSFILE (~/.pgpass), PGPASSWORD or a service file. One that stands in
the address is used, and shown nowhere.
"""

from __future__ import annotations

import re

# As libpq takes them, and as SQLAlchemy writes the driver that is used here.
_SERVER = re.compile(r"(?:postgres|postgresql|postgresql\+psycopg)://", re.IGNORECASE)
# Up to the last @ of all: libpq wants @ : / ? of a password as %40 and so on, but whoever forgot that must
# not see it shown. An address with an @ elsewhere is shown shorter than it is.
_LOGIN = re.compile(r"://([^:/?#@]*):.*@", re.DOTALL)
_SECRET_PARAMETER = re.compile(r"([?&][^&=]*password[^&=]*)=[^&]*", re.IGNORECASE)
_HIDDEN = "***"


def is_server_url(text: str) -> bool:
    """Tell whether a text names a database on a PostgreSQL server."""
    return _SERVER.match(text) is not None


def libpq_url(text: str) -> str:
    """Return the address as libpq takes it, with the password that it may hold."""
    return _SERVER.sub("postgresql://", text, count=1)


def has_password(text: str) -> bool:
    """Tell whether an address holds a password."""
    return without_password(text) != text


def without_password(text: str) -> str:
    """Return the address of a database as it may be shown; a path is returned as it is."""
    if not is_server_url(text):
        return text
    return _SECRET_PARAMETER.sub(rf"\1={_HIDDEN}", _LOGIN.sub(rf"://\1:{_HIDDEN}@", text))
