"""Address of a database on a server, looked at before anything that takes long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from config.database_url import has_password, is_server_url

if TYPE_CHECKING:
    import logging


def check_address(address: str, logger: logging.Logger) -> None:
    """Raise UsageError for an address that cannot be, or without the extra; warn of a password in it."""
    if not is_server_url(address):
        return
    from storage.database import backend_for

    backend_for(address)
    if has_password(address):
        logger.warning(
            "the address of the database holds its password, which other users of this machine may see in "
            "the list of processes; better leave it to ~/.pgpass or PGPASSFILE"
        )
