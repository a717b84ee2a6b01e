"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    # Written out, not taken from storage.schema: what this revision made must not change with the code.
    op.create_table(
        "heartbeat",
        sa.Column("id", _ID, nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.Column("stopped_us", sa.BigInteger(), nullable=True),
        sa.Column("snapshot", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_heartbeat")),
        sa.UniqueConstraint("host", "pid", "started_us", name=op.f("uq_heartbeat_host_pid_started_us")),
    )
    op.create_table(
        "inbox",
        sa.Column("id", _ID, nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inbox")),
        sa.UniqueConstraint("path", name=op.f("uq_inbox_path")),
    )
    op.create_table(
        "label",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_label")),
        sa.UniqueConstraint("name", name=op.f("uq_label_name")),
    )
    op.create_table(
        "model",
        sa.Column("id", _ID, nullable=False),
        sa.Column("weights_sha256", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("engine", sa.Text(), nullable=False),
        sa.Column("precision", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("classes", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("first_used_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model")),
        sa.UniqueConstraint(
            "weights_sha256",
            "engine",
            "precision",
            "device",
            name=op.f("uq_model_weights_sha256_engine_precision_device"),
        ),
    )
    op.create_table(
        "reason",
        sa.Column("id", _ID, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reason")),
        sa.UniqueConstraint("text", name=op.f("uq_reason_text")),
    )
    op.create_table(
        "tally",
        sa.Column("seconds", sa.Integer(), nullable=False),
        sa.Column("start_us", sa.BigInteger(), nullable=False),
        sa.Column("inbox_id", sa.BigInteger(), nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("label_id", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "seconds", "start_us", "inbox_id", "model_id", "label_id", "status", name=op.f("pk_tally")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "folder",
        sa.Column("id", _ID, nullable=False),
        sa.Column("inbox_id", _ID, nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["inbox_id"], ["inbox.id"], name=op.f("fk_folder_inbox_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_folder")),
        sa.UniqueConstraint("inbox_id", "path", name=op.f("uq_folder_inbox_id_path")),
    )
    op.create_table(
        "file",
        sa.Column("id", _ID, nullable=False),
        sa.Column("folder_id", _ID, nullable=False),
        sa.Column("name", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("inode", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), nullable=False),
        sa.Column("first_seen_us", sa.BigInteger(), nullable=False),
        sa.Column("not_before_us", sa.BigInteger(), nullable=True),
        sa.Column("previous_id", sa.BigInteger(), nullable=True),
        sa.Column("move", sa.SmallInteger(), nullable=True),
        sa.Column("moved_to", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["folder_id"], ["folder.id"], name=op.f("fk_file_folder_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_file")),
    )
    op.create_index(
        "ix_file_move_due",
        "file",
        ["move"],
        unique=False,
        sqlite_where=sa.text("move = 1"),
        postgresql_where=sa.text("move = 1"),
    )
    op.create_index(
        "ix_file_quarantined",
        "file",
        ["state"],
        unique=False,
        sqlite_where=sa.text("state = 2"),
        postgresql_where=sa.text("state = 2"),
    )
    op.create_index(
        "uq_file_current_path",
        "file",
        ["folder_id", "name"],
        unique=True,
        sqlite_where=sa.text("state != 3"),
        postgresql_where=sa.text("state != 3"),
    )
    op.create_table(
        "attempt",
        sa.Column("id", _ID, nullable=False),
        sa.Column("file_id", _ID, nullable=False),
        sa.Column("model_id", _ID, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("reason_id", _ID, nullable=False),
        sa.ForeignKeyConstraint(["file_id"], ["file.id"], name=op.f("fk_attempt_file_id")),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name=op.f("fk_attempt_model_id")),
        sa.ForeignKeyConstraint(["reason_id"], ["reason.id"], name=op.f("fk_attempt_reason_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempt")),
    )
    op.create_index(op.f("ix_attempt_file_id"), "attempt", ["file_id"], unique=False)
    op.create_table(
        "result",
        sa.Column("id", _ID, nullable=False),
        sa.Column("file_id", _ID, nullable=False),
        sa.Column("model_id", _ID, nullable=False),
        sa.Column("label_id", _ID, nullable=True),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=True),
        sa.Column("completed_us", sa.BigInteger(), nullable=False),
        sa.Column("duration_us", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=True),
        sa.Column("reason_id", _ID, nullable=True),
        sa.Column("slice_index", sa.Integer(), nullable=True),
        sa.Column("slice_count", sa.Integer(), nullable=True),
        sa.Column("tags", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["file_id"], ["file.id"], name=op.f("fk_result_file_id")),
        sa.ForeignKeyConstraint(["label_id"], ["label.id"], name=op.f("fk_result_label_id")),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name=op.f("fk_result_model_id")),
        sa.ForeignKeyConstraint(["reason_id"], ["reason.id"], name=op.f("fk_result_reason_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_result")),
        sa.UniqueConstraint("file_id", "model_id", name=op.f("uq_result_file_id_model_id")),
    )
    op.create_index("ix_result_completed", "result", ["completed_us", "status", "label_id"], unique=False)
    op.create_index(
        "ix_file_due",
        "file",
        [sa.text("coalesce(not_before_us, first_seen_us)"), "attempts", "first_seen_us"],
        sqlite_where=sa.text("state = 0"),
        postgresql_where=sa.text("state = 0"),
    )
    op.create_index(
        "ix_result_sha256_prefix",
        "result",
        [sa.text("substr(sha256, 1, 8)")],
        sqlite_where=sa.text("sha256 IS NOT NULL"),
        postgresql_where=sa.text("sha256 IS NOT NULL"),
    )

    if op.get_bind().dialect.name == "postgresql":
        _find_paths_by_digest()


def _find_paths_by_digest() -> None:
    """Let paths of any length be unique: PostgreSQL's index takes no value of more than 2,700 bytes."""
    op.drop_constraint("uq_folder_inbox_id_path", "folder")
    op.create_index("uq_folder_inbox_id_path", "folder", ["inbox_id", sa.text("sha256(path)")], unique=True)
    op.drop_constraint("uq_inbox_path", "inbox")
    op.create_index("uq_inbox_path", "inbox", [sa.text("sha256(path)")], unique=True)


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: a downgrade would lose results")
