"""Reviews: what people say of images, beside what the models say."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_ORDER = "((file_id % 2147483647) * 1327217885) % 2147483647"


def upgrade() -> None:
    op.create_table(
        "reviewer",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.UniqueConstraint("name", name="uq_reviewer_name"),
    )
    op.create_table(
        "review",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("request_id", sa.LargeBinary(), nullable=False),
        sa.Column("file_id", _ID, sa.ForeignKey("file.id", name="fk_review_file_id"), nullable=False),
        sa.Column("model_id", _ID, sa.ForeignKey("model.id", name="fk_review_model_id"), nullable=False),
        sa.Column(
            "reviewer_id", _ID, sa.ForeignKey("reviewer.id", name="fk_review_reviewer_id"), nullable=False
        ),
        sa.Column("answer", sa.SmallInteger(), nullable=False),
        sa.Column("label_id", _ID, sa.ForeignKey("label.id", name="fk_review_label_id")),
        sa.Column("shown_label_id", _ID, sa.ForeignKey("label.id", name="fk_review_shown_label_id")),
        sa.Column("shown_status", sa.SmallInteger()),
        sa.Column("origin", sa.SmallInteger(), nullable=False),
        sa.Column("in_sample", sa.SmallInteger(), nullable=False),
        sa.Column("note", sa.Text()),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("withdrawn_us", sa.BigInteger()),
        sa.UniqueConstraint("request_id", name="uq_review_request_id"),
    )
    said = ["file_id", "withdrawn_us", "answer", "label_id", "in_sample"]
    op.create_index("ix_review_file_id", "review", said)
    stands = sa.text("withdrawn_us IS NULL")
    op.create_index(
        "uq_review_standing",
        "review",
        ["file_id", "reviewer_id"],
        unique=True,
        sqlite_where=stands,
        postgresql_where=stands,
    )
    op.create_index(
        "ix_review_order",
        "review",
        # PostgreSQL wants an expression in brackets of its own; SQLite keeps the text as it was published.
        [sa.text(_ORDER if op.get_bind().dialect.name == "sqlite" else f"({_ORDER})"), "in_sample", "origin"],
        sqlite_where=stands,
        postgresql_where=stands,
    )
    uncertain = sa.text("status = 1")
    op.create_index(
        "ix_result_uncertain",
        "result",
        ["file_id", "model_id", "score"],
        sqlite_where=uncertain,
        postgresql_where=uncertain,
    )


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: a downgrade would lose reviews")
