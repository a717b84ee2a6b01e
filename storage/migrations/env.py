"""Run by Alembic: upgrade the connection that `storage.migrations.upgrade` hands over."""

from __future__ import annotations

from alembic import context

from storage.schema import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    # SQLite cannot alter a column: Alembic copies the table instead.
    render_as_batch=True,
    # The caller's transaction holds: half a migration must never be committed.
    transactional_ddl=False,
)
context.run_migrations()
