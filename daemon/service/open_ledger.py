"""Open a daemon's ledger as its settings and its model say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from daemon.inbox.series_pattern import path_reader
from storage.database import close_whole, open_writer, stand_in
from storage.database_errors import DatabaseLostError
from storage.ledger.ledger import Ledger
from storage.ledger.retry import RetryPolicy
from storage.ledger.series_keeper import SeriesReading
from storage.records import ModelRecord
from storage.schema import FileState
from trainer.model.series_rule import SeriesRule

if TYPE_CHECKING:
    import sqlalchemy as sa

    from config.settings import Settings
    from daemon.engines.manifest import PreparedEngine
    from trainer.model.spec import ModelSpec

# The daemon has its own patience with a locked database (it keeps the turn and tries again), so a
# statement waits only as long as an ordinary reader's checkpoint takes.
_BUSY_SECONDS = 0.25


def model_record(prepared: PreparedEngine, spec: ModelSpec) -> ModelRecord:
    """Return the identity that rows name."""
    return ModelRecord(
        weights_sha256=prepared.weights_sha256,
        name=spec.name,
        version=spec.version,
        engine=prepared.kind,
        precision=prepared.precision,
        device=prepared.device,
        classes=spec.classes,
        why=prepared.why,
        positive=spec.decision.positive,
        threshold=spec.decision.threshold if spec.decision.positive is not None else None,
        uncertain_low=spec.decision.uncertain_low,
        uncertain_high=spec.decision.uncertain_high,
        series_rule=SeriesRule.of(spec).to_json(),
    )


@contextmanager
def open_ledger(settings: Settings, *, once: bool) -> Iterator[tuple[Ledger, sa.Connection]]:
    """Open the database for writing, and close it whole; with `once` nothing waits for more to come."""
    connection = open_writer(settings.db, busy_seconds=_BUSY_SECONDS, sole=True)
    try:
        policy = RetryPolicy(
            base_seconds=settings.retry_base_seconds,
            attempts=max(1, settings.retry_limit),
            # With --once nobody waits for the rest of a file: it is an error now, a new version later.
            deadline_seconds=0.0 if once else settings.deadline_seconds,
        )
        ledger = Ledger(
            connection,
            retry=policy,
            moving=_moving(settings),
            series=SeriesReading(SeriesRule.from_json, path_reader(settings.series)),
        )
        yield ledger, connection
    except DatabaseLostError:
        close_whole(connection, lost=stand_in(settings.db))
        raise
    finally:
        close_whole(connection)


def _moving(settings: Settings) -> set[FileState]:
    """Return the states after which a file is moved."""
    done = {FileState.DONE} if settings.on_done == "move" else set()
    return done | ({FileState.QUARANTINED} if settings.quarantine_dir else set())
