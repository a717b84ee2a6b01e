"""Series: which one a result belongs to, and what is concluded about each."""

from __future__ import annotations

import hashlib
import os
import secrets

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_AT_ONCE = 2_000


def upgrade() -> None:
    op.create_table(
        "pseudonym_key",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "series",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("inbox_id", _ID, sa.ForeignKey("inbox.id", name="fk_series_inbox_id"), nullable=False),
        sa.Column("series_key", sa.LargeBinary(), nullable=False),
        sa.Column("study_key", sa.LargeBinary()),
        sa.Column("patient_key", sa.LargeBinary()),
        sa.Column("origin", sa.SmallInteger(), nullable=False),
        sa.Column("name", sa.Text()),
        sa.Column("study_name", sa.Text()),
        sa.Column("patient_name", sa.Text()),
        sa.UniqueConstraint("inbox_id", "series_key", name="uq_series_inbox_id_series_key"),
    )
    for column in ("study_key", "patient_key"):
        where = sa.text(f"{column} IS NOT NULL")
        op.create_index(f"ix_series_{column}", "series", [column], sqlite_where=where, postgresql_where=where)
    op.add_column("model", sa.Column("series_rule", sa.Text(), nullable=True))
    op.add_column("result", sa.Column("series_id", sa.BigInteger(), nullable=True))
    op.add_column("result", sa.Column("position", sa.Double(), nullable=True))
    op.add_column("result", sa.Column("votes", sa.LargeBinary(), nullable=True))
    where = sa.text("series_id IS NOT NULL")
    op.create_index(
        "ix_result_series",
        "result",
        ["series_id", "model_id", "position"],
        sqlite_where=where,
        postgresql_where=where,
    )
    _create_verdicts()
    _keep_volumes()


def _create_verdicts() -> None:
    op.create_table(
        "series_verdict",
        sa.Column("series_id", _ID, sa.ForeignKey("series.id", name="fk_series_verdict_series_id")),
        sa.Column("model_id", _ID, sa.ForeignKey("model.id", name="fk_series_verdict_model_id")),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("label_id", _ID, sa.ForeignKey("label.id", name="fk_series_verdict_label_id")),
        sa.Column("confidence", sa.Double()),
        sa.Column("score", sa.Double()),
        sa.Column("slices", sa.Integer(), nullable=False),
        sa.Column("rejected", sa.Integer(), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("votes", sa.LargeBinary(), nullable=False),
        sa.Column("loudest_file_id", sa.BigInteger()),
        sa.Column("loudest_score", sa.Double()),
        sa.Column("first_us", sa.BigInteger(), nullable=False),
        sa.Column("touched_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("series_id", "model_id", name="pk_series_verdict"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_series_verdict_touched", "series_verdict", ["touched_us", "status", "label_id"])


def _keep_volumes() -> None:
    """Make a series of every volume that was judged, with the answer that it got."""
    connection = op.get_bind()
    secret = secrets.token_bytes(32)
    connection.execute(
        sa.text("INSERT INTO pseudonym_key (id, secret) VALUES (1, :secret)"), {"secret": secret}
    )
    last = 0
    while rows := connection.execute(_VOLUMES, {"last": last, "limit": _AT_ONCE}).all():
        last = rows[-1].id
        for row in rows:
            key = _file_key(secret, os.path.join(bytes(row.folder_path), bytes(row.name)))
            series_id = _series_id(connection, row.inbox_id, key)
            connection.execute(_JOIN, {"series_id": series_id, "id": row.id})
            rejected = row.status == _REJECTED
            connection.execute(
                _VERDICT,
                {
                    "series_id": series_id,
                    **{name: getattr(row, name) for name in _KEPT},
                    "slices": 0 if rejected else row.slice_count,
                    "rejected": row.slice_count if rejected else 0,
                    "loudest_file_id": None if rejected else row.file_id,
                    "loudest_score": None if rejected else row.score,
                },
            )


def _file_key(secret: bytes, path: bytes) -> bytes:
    """Return the pseudonym of a volume that says of no series, as storage.pseudonyms makes it."""
    length = len(path).to_bytes(8, "little")
    return hashlib.blake2b(length + path, key=secret, digest_size=16, person=b"file").digest()


def _series_id(connection: sa.Connection, inbox_id: int, key: bytes) -> int:
    known = sa.text("SELECT id FROM series WHERE inbox_id = :inbox_id AND series_key = :key")
    found = connection.execute(known, {"inbox_id": inbox_id, "key": key}).scalar()
    if found is None:
        insert = sa.text("INSERT INTO series (inbox_id, series_key, origin) VALUES (:inbox_id, :key, 3)")
        connection.execute(insert, {"inbox_id": inbox_id, "key": key})
        found = connection.execute(known, {"inbox_id": inbox_id, "key": key}).scalar_one()
    return int(found)


_REJECTED = 2
_KEPT = ("model_id", "status", "label_id", "confidence", "score", "completed_us")
# Rows that are no errors, of versions that are not superseded.
_VOLUMES = sa.text(
    """
    SELECT result.id, result.file_id, result.model_id, result.status, result.label_id, result.confidence,
           result.score, result.slice_count, result.completed_us, folder.inbox_id, folder.path AS folder_path,
           file.name
    FROM result JOIN file ON file.id = result.file_id JOIN folder ON folder.id = file.folder_id
    WHERE result.id > :last AND result.slice_count > 1 AND result.status < 3 AND file.state <> 3
    ORDER BY result.id LIMIT :limit
    """
)
_JOIN = sa.text("UPDATE result SET series_id = :series_id WHERE id = :id")
_VERDICT = sa.text(
    """
    INSERT INTO series_verdict (series_id, model_id, status, label_id, confidence, score, slices, rejected,
                                files, votes, loudest_file_id, loudest_score, first_us, touched_us)
    VALUES (:series_id, :model_id, :status, :label_id, :confidence, :score, :slices, :rejected,
            1, x'', :loudest_file_id, :loudest_score, :completed_us, :completed_us)
    """
)


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: a downgrade would lose results")
