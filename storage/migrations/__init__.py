"""Migrations: bring a database of an older version to this one's schema."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Bring the database to `revision` within the transaction that `connection` is in."""
    from alembic import command

    command.upgrade(configuration(connection), revision)


def steps_from(revision: str) -> tuple[str, ...]:
    """Return what each revision after `revision` is about, in their order."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(configuration())
    found = [script for script in scripts.walk_revisions() if script.revision > revision]
    return tuple(f"{script.revision}: {script.doc}" for script in reversed(found))


def configuration(connection: Connection | None = None) -> Config:
    """Return Alembic's configuration without a file, so that it works from an installed wheel."""
    from alembic.config import Config

    config = Config()
    # A % in the path of the installation would be taken for an interpolation.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
