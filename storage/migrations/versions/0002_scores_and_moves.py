"""Scores with what they are compared with, and moves that wait on their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("file", sa.Column("move_attempts", sa.SmallInteger(), nullable=True))
    op.add_column("file", sa.Column("move_not_before_us", sa.BigInteger(), nullable=True))
    op.add_column("file", sa.Column("move_trouble", sa.Text(), nullable=True))
    op.drop_index("ix_file_move_due", "file")
    op.create_index(
        "ix_file_move_due",
        "file",
        [sa.text("coalesce(move_not_before_us, 0)")],
        sqlite_where=sa.text("move = 1"),
        postgresql_where=sa.text("move = 1"),
    )
    op.add_column("model", sa.Column("positive", sa.Text(), nullable=True))
    op.add_column("model", sa.Column("threshold", sa.Double(), nullable=True))
    op.add_column("model", sa.Column("uncertain_low", sa.Double(), nullable=True))
    op.add_column("model", sa.Column("uncertain_high", sa.Double(), nullable=True))
    op.add_column("result", sa.Column("score", sa.Double(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: a downgrade would lose results")
