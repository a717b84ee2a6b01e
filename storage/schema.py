"""Schema: the tables, and what a column means.

    inbox 1-n folder 1-n file 1-n result n-1 model, label, reason
                              1-n attempt (failures only)
                              1-n review n-1 reviewer (what people say; rows are added and withdrawn)
    series 1-n result, 1-n series_verdict (one per model, kept in the results' transaction)
    tally: how many results there are per minute and per day, kept in the results' transaction
    heartbeat: what the running daemon says about itself

Sizes matter: ten million rows are meant. Text that repeats (folders, labels, reasons) is stored
once, states are small integers, and columns that are mostly empty cost one byte. All times are
microseconds since the epoch, UTC.
"""

from __future__ import annotations

from enum import IntEnum

import sqlalchemy as sa

from storage.random_order import random_order_of
from storage.records import Status

# The newest revision in storage/migrations; a database of a newer one is refused.
REVISION = "0004"

# Written out here so that a stored number never depends on the order of an enumeration.
STATUS_CODES: dict[Status, int] = {Status.OK: 0, Status.UNCERTAIN: 1, Status.REJECTED: 2, Status.ERROR: 3}
STATUS_OF_CODE: dict[int, Status] = {code: status for status, code in STATUS_CODES.items()}
ERROR_CODE = STATUS_CODES[Status.ERROR]

# The lengths of time for which results are counted ahead: whole days answer most of a question,
# minutes its edges, so that no question adds up more than a few thousand tallies.
TALLY_SECONDS = (86_400, 60)

# So many leading bytes of a sha256 are indexed: enough to make a chance hit rare, a quarter of the size.
SHA_PREFIX_BYTES = 8


class FileState(IntEnum):
    """What the ledger knows about a file version; the numbers are stored."""

    PENDING = 0  # waits for its first judgement or, with attempts > 0, for the next try
    DONE = 1  # judged, the result is stored
    QUARANTINED = 2  # given up, the error is stored; `retry` makes it pending
    SUPERSEDED = 3  # another version of the same path came
    GONE = 4  # deleted before it was judged; pending again if it comes back
    CHANGED = 5  # changed while it was read; pending again if that very version comes back


class SeriesOrigin(IntEnum):
    """What says that files belong together; the numbers are stored."""

    DICOM = 1  # the object itself
    PATTERN = 2  # its path, by the pattern that a setting names
    FILE = 3  # the file is a series: a volume


class ReviewAnswer(IntEnum):
    """What a person says of an image; the numbers are stored."""

    CLASS = 1  # it is of this class
    OTHER_KIND = 2  # no image of the kind the model was made for
    SKIPPED = 3  # looked at, not answered


class ReviewOrigin(IntEnum):
    """Why a person was shown an image; the numbers are stored."""

    UNCERTAIN = 1  # the model was not sure
    NEAR = 2  # its score lies near the threshold
    RANDOM = 3  # next in the random order, see `storage.random_order`
    CHOSEN = 4  # opened by hand
    IMPORTED = 5  # from a file


class MoveState(IntEnum):
    """Where the file of a finished version is; NULL means: it stays where it is."""

    DUE = 1  # the result is committed, the move is not done yet
    MOVED = 2


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite's rowid alias must be spelt INTEGER; elsewhere ten million rows a month want 64 bits.
_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_Microseconds = sa.BigInteger


class _Bytes(sa.LargeBinary):
    """Bytes as they are: sqlite3 takes and gives `bytes`, wrapping each value would only cost time."""

    cache_ok = True

    def bind_processor(self, dialect: sa.Dialect) -> None:  # noqa: ARG002 - SQLAlchemy's signature
        return None

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> None:  # noqa: ARG002
        return None


inbox = sa.Table(
    "inbox",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("path", _Bytes, nullable=False, unique=True),  # absolute, as bytes
)

folder = sa.Table(
    "folder",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("inbox_id", sa.ForeignKey("inbox.id"), nullable=False),
    sa.Column("path", _Bytes, nullable=False),  # relative to the inbox, b"" for itself
    sa.UniqueConstraint("inbox_id", "path"),
)

file = sa.Table(
    "file",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("folder_id", sa.ForeignKey("folder.id"), nullable=False),
    sa.Column("name", _Bytes, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),  # bytes
    sa.Column("mtime_ns", sa.BigInteger, nullable=False),
    sa.Column("inode", sa.BigInteger, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),  # FileState
    sa.Column("attempts", sa.SmallInteger, nullable=False),  # failures since it last became pending
    sa.Column("first_seen_us", _Microseconds, nullable=False),
    sa.Column("not_before_us", _Microseconds),  # when it is tried again; NULL: at once
    sa.Column("previous_id", sa.BigInteger),  # the version it superseded; may be pruned, so no foreign key
    sa.Column("move", sa.SmallInteger),  # MoveState
    sa.Column("moved_to", _Bytes),  # absolute path, when it was moved
    # A move that could not be done, as `attempts` and `not_before_us` are for judging; NULL: not tried yet.
    sa.Column("move_attempts", sa.SmallInteger),
    sa.Column("move_not_before_us", _Microseconds),
    sa.Column("move_trouble", sa.Text),  # why the last try failed
)

# Literals, not bound values: SQLite takes a partial index only for a term it can read while planning.
# The indexes below name SQLite alone: a word for PostgreSQL here makes SQLAlchemy import that dialect at
# every start (23 ms). The migrations, from which another database would be made, name both.
IS_CURRENT = file.c.state != sa.literal_column(str(int(FileState.SUPERSEDED)))
IS_PENDING = file.c.state == sa.literal_column(str(int(FileState.PENDING)))
IS_QUARANTINED = file.c.state == sa.literal_column(str(int(FileState.QUARANTINED)))
IS_MOVE_DUE = file.c.move == sa.literal_column(str(int(MoveState.DUE)))
move_due_at_us = sa.func.coalesce(file.c.move_not_before_us, sa.literal_column("0"))
due_at_us = sa.func.coalesce(file.c.not_before_us, file.c.first_seen_us)

# One current version per path, and the way from a path to it.
sa.Index(
    "uq_file_current_path",
    file.c.folder_id,
    file.c.name,
    unique=True,
    sqlite_where=IS_CURRENT,
)
# The queue, oldest first; it also answers how many wait, how many of them again, and since when.
sa.Index(
    "ix_file_due",
    due_at_us,
    file.c.attempts,
    file.c.first_seen_us,
    sqlite_where=IS_PENDING,
)
sa.Index("ix_file_quarantined", file.c.state, sqlite_where=IS_QUARANTINED)
sa.Index("ix_file_move_due", move_due_at_us, sqlite_where=IS_MOVE_DUE)

model = sa.Table(
    "model",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("weights_sha256", sa.String(64), nullable=False),  # hex
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("engine", sa.Text, nullable=False),
    sa.Column("precision", sa.Text, nullable=False),
    sa.Column("device", sa.Text, nullable=False),
    sa.Column("classes", sa.Text, nullable=False),  # JSON array, in the order of the logits
    sa.Column("why", sa.Text, nullable=False),  # how engine and precision came to be picked
    sa.Column("first_used_us", _Microseconds, nullable=False),
    # What scores are compared with; NULL in rows of schema 0001 until a daemon uses the model again.
    sa.Column("positive", sa.Text),  # the class a score is the probability of; NULL: of the likeliest
    sa.Column("threshold", sa.Double),  # score from which the label is `positive`
    sa.Column("uncertain_low", sa.Double),  # the band in which a result is uncertain
    sa.Column("uncertain_high", sa.Double),
    # How slices become the verdict of a series, JSON; NULL in rows of schema 0002 until it is used again.
    sa.Column("series_rule", sa.Text),
    sa.UniqueConstraint("weights_sha256", "engine", "precision", "device"),
)


def _texts(name: str, column: str = "name") -> sa.Table:
    """Return a table of texts that repeat, each stored once."""
    text = sa.Column(column, sa.Text, nullable=False, unique=True)
    return sa.Table(name, metadata, sa.Column("id", _Id, primary_key=True), text)


label, reason, reviewer = _texts("label"), _texts("reason", "text"), _texts("reviewer")

# One row: the secret that identifiers of patients, studies and series are hashed with.
pseudonym_key = sa.Table(
    "pseudonym_key",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("secret", _Bytes, nullable=False),
)

series = sa.Table(
    "series",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("inbox_id", sa.ForeignKey("inbox.id"), nullable=False),
    sa.Column("series_key", _Bytes, nullable=False),  # 16 bytes, keyed hash of what names it
    sa.Column("study_key", _Bytes),  # 16 bytes; NULL: not known
    sa.Column("patient_key", _Bytes),
    sa.Column("origin", sa.SmallInteger, nullable=False),  # SeriesOrigin
    # In the clear: from paths, which rows hold anyway, and from DICOM what `--tags` asks for.
    sa.Column("name", sa.Text),
    sa.Column("study_name", sa.Text),
    sa.Column("patient_name", sa.Text),
    sa.UniqueConstraint("inbox_id", "series_key"),
)
sa.Index("ix_series_study_key", series.c.study_key, sqlite_where=series.c.study_key.is_not(None))
sa.Index("ix_series_patient_key", series.c.patient_key, sqlite_where=series.c.patient_key.is_not(None))

result = sa.Table(
    "result",
    metadata,
    sa.Column("id", _Id, primary_key=True),  # grows in the order of the commits: `--follow` reads by it
    sa.Column("file_id", sa.ForeignKey("file.id"), nullable=False),
    sa.Column("model_id", sa.ForeignKey("model.id"), nullable=False),
    sa.Column("label_id", sa.ForeignKey("label.id")),  # NULL: rejected or error
    sa.Column("status", sa.SmallInteger, nullable=False),  # STATUS_CODES
    sa.Column("confidence", sa.Double),  # 0..1
    sa.Column("completed_us", _Microseconds, nullable=False),
    sa.Column("duration_us", sa.Integer, nullable=False),  # read + decode + inference share
    # Here and not in `file`: a row that is written whole never grows, so its page never splits.
    sa.Column("sha256", _Bytes),  # of the bytes judged; NULL: they could not be read
    sa.Column("reason_id", sa.ForeignKey("reason.id")),
    sa.Column("slice_index", sa.Integer),
    sa.Column("slice_count", sa.Integer),
    sa.Column("tags", sa.Text),  # JSON object, only what a setting asks for
    # Calibrated probability of the model's `positive` class, 0..1, of rejected images too; NULL for errors.
    sa.Column("score", sa.Double),
    sa.Column("series_id", sa.BigInteger),  # NULL: part of none
    sa.Column("position", sa.Double),  # along the series, in mm or by number
    # Of a file of several slices: what each says, see storage.ledger.votes; NULL: the score is the only vote.
    sa.Column("votes", _Bytes),
    # The promise of one row per (file version, model).
    sa.UniqueConstraint("file_id", "model_id"),
)
# Status and label ride along so that a rare class is found without visiting every row of the range.
sa.Index("ix_result_completed", result.c.completed_us, result.c.status, result.c.label_id)
SHA_PREFIX = sa.func.substr(result.c.sha256, sa.literal_column("1"), sa.literal_column(str(SHA_PREFIX_BYTES)))
sa.Index(
    "ix_result_sha256_prefix",
    SHA_PREFIX,
    sqlite_where=result.c.sha256.is_not(None),
)

# What waits for a person, with its score: few of many rows, found without visiting the others.
sa.Index(
    "ix_result_uncertain",
    result.c.file_id,
    result.c.model_id,
    result.c.score,
    sqlite_where=result.c.status == sa.literal_column(str(STATUS_CODES[Status.UNCERTAIN])),
)

# The slices of a series under one model, in their order.
sa.Index(
    "ix_result_series",
    result.c.series_id,
    result.c.model_id,
    result.c.position,
    sqlite_where=result.c.series_id.is_not(None),
)

series_verdict = sa.Table(
    "series_verdict",
    metadata,
    sa.Column("series_id", sa.ForeignKey("series.id"), primary_key=True),
    sa.Column("model_id", sa.ForeignKey("model.id"), primary_key=True),
    sa.Column("status", sa.SmallInteger, nullable=False),  # STATUS_CODES, never an error
    sa.Column("label_id", sa.ForeignKey("label.id")),  # NULL: all rejected
    sa.Column("confidence", sa.Double),  # 0..1
    sa.Column("score", sa.Double),  # as in `result`
    sa.Column("slices", sa.Integer, nullable=False),  # that have a vote
    sa.Column("rejected", sa.Integer, nullable=False),  # that have none
    sa.Column("files", sa.Integer, nullable=False),
    sa.Column("votes", _Bytes, nullable=False),  # how many slices say what, see storage.ledger.votes
    sa.Column("loudest_file_id", sa.BigInteger),  # the file whose score is largest
    sa.Column("loudest_score", sa.Double),
    sa.Column("first_us", _Microseconds, nullable=False),  # when its first result was completed
    sa.Column("touched_us", _Microseconds, nullable=False),  # when its last one was
    sqlite_with_rowid=False,
)
# Status and label ride along so that a rare class is found without visiting every verdict.
sa.Index(
    "ix_series_verdict_touched",
    series_verdict.c.touched_us,
    series_verdict.c.status,
    series_verdict.c.label_id,
)

attempt = sa.Table(
    "attempt",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("file_id", sa.ForeignKey("file.id"), nullable=False, index=True),
    sa.Column("model_id", sa.ForeignKey("model.id"), nullable=False),
    sa.Column("at_us", _Microseconds, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),  # FailureKind
    sa.Column("reason_id", sa.ForeignKey("reason.id"), nullable=False),
)

tally = sa.Table(
    "tally",
    metadata,
    sa.Column("seconds", sa.Integer, primary_key=True),  # one of TALLY_SECONDS
    sa.Column("start_us", _Microseconds, primary_key=True),  # a multiple of `seconds` since the epoch
    sa.Column("inbox_id", sa.BigInteger, primary_key=True),
    sa.Column("model_id", sa.BigInteger, primary_key=True),
    sa.Column("label_id", sa.BigInteger, primary_key=True),  # 0: none
    sa.Column("status", sa.SmallInteger, primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

review = sa.Table(
    "review",
    metadata,
    sa.Column("id", _Id, primary_key=True),  # grows in the order of the commits
    sa.Column("request_id", _Bytes, nullable=False, unique=True),  # 16 bytes, made by who asks
    sa.Column("file_id", sa.ForeignKey("file.id"), nullable=False),
    sa.Column("model_id", sa.ForeignKey("model.id"), nullable=False),  # whose answer was seen
    sa.Column("reviewer_id", sa.ForeignKey("reviewer.id"), nullable=False),
    sa.Column("answer", sa.SmallInteger, nullable=False),  # ReviewAnswer
    sa.Column("label_id", sa.ForeignKey("label.id")),  # NULL: no class was said
    sa.Column("shown_label_id", sa.ForeignKey("label.id")),  # what the model said at that time
    sa.Column("shown_status", sa.SmallInteger),
    sa.Column("origin", sa.SmallInteger, nullable=False),  # ReviewOrigin
    sa.Column("in_sample", sa.SmallInteger, nullable=False),  # 1: counts as drawn at random
    sa.Column("note", sa.Text),
    sa.Column("at_us", _Microseconds, nullable=False),
    sa.Column("withdrawn_us", _Microseconds),  # NULL: it stands
)
# From a file to its reviews, with all that makes up what they say together.
sa.Index(
    "ix_review_file_id",
    *(review.c[name] for name in ("file_id", "withdrawn_us", "answer", "label_id", "in_sample")),
)
STANDS = review.c.withdrawn_us.is_(None)
# One standing review per file and reviewer.
sa.Index("uq_review_standing", review.c.file_id, review.c.reviewer_id, unique=True, sqlite_where=STANDS)
review_order = random_order_of(review.c.file_id)
# The standing reviews in the random order: which of them are a sample.
sa.Index("ix_review_order", review_order, review.c.in_sample, review.c.origin, sqlite_where=STANDS)

heartbeat = sa.Table(
    "heartbeat",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("started_us", _Microseconds, nullable=False),
    sa.Column("updated_us", _Microseconds, nullable=False),
    sa.Column("stopped_us", _Microseconds),  # NULL: runs, or died without a word
    sa.Column("snapshot", sa.Text, nullable=False),  # JSON object, see storage.ledger.heartbeat
    sa.UniqueConstraint("host", "pid", "started_us"),
)


def create(connection: sa.Connection) -> None:
    """Make the tables of an empty database, in the transaction the connection is in.

    The result is what the migrations lead to, without importing Alembic: a first start takes 0.2 s less.
    """
    metadata.create_all(connection)
    # Alembic's own table, as Alembic makes it; outside `metadata`, for it is not ours.
    version = sa.Table(
        "alembic_version",
        sa.MetaData(),
        sa.Column("version_num", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
    )
    version.create(connection, checkfirst=True)
    connection.execute(version.insert().values(version_num=REVISION))
