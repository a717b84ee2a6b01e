"""Metrics of a daemon for Prometheus, from its heartbeat and the tallies: they are there when it is dead.

No label holds a path, a name of a file or model, or a tag: words of fixed lists, classes, a hash, versions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from daemon.output.result_columns import SHORT_HASH
from daemon.version import program_version
from daemon.views.daemon_status import DaemonStatus, drift_findings, inboxes
from daemon.views.health_check import Health, HealthCause, Word
from daemon.views.worker_status import remote_workers
from daemon.web.exposition import Metric
from storage.records import Status

_INBOX_STATES = ("watching", "polling", "degraded")
_PREFIX = "btdaemon_"


def metrics(status: DaemonStatus | None, health: Health, disk: tuple[int, int] | None) -> list[Metric]:
    """Return everything that a scrape tells.

    Without a `status` (the database cannot be read) that is health alone; `disk` is bytes free and in all
    where the database lies.
    """
    found = [*_of_health(health), *_of_disk(disk)]
    if status is not None:
        told = status.told
        found += [
            *_of_results(status), *_of_queue(status), *_of_time(status), *_of_inboxes(status),
            *_of_workers(told), *_of_remote_workers(status), *_of_drift(status), _build_info(told),
        ]  # fmt: skip
    return found


def _gauge(name: str, words: str) -> Metric:
    return Metric(_PREFIX + name, words)


def _counter(name: str, words: str) -> Metric:
    return Metric(f"{_PREFIX}{name}_total", words, "counter")


def _of_health(health: Health) -> Iterator[Metric]:
    yield _gauge("up", "Whether a daemon lives and its loop turns.").add(health.alive)
    yield _gauge("health", "How the daemon is: 1 for the word that holds.").one_of(health.word, Word, "state")
    causes = {reason.cause for reason in health.told}
    reasons = _gauge("health_reason", "What makes the daemon degraded or down: 1 for what holds.")
    for cause in HealthCause:
        reasons.add(cause in causes, reason=cause)
    yield reasons


def _of_disk(disk: tuple[int, int] | None) -> Iterator[Metric]:
    free, size = disk or (None, None)
    yield _gauge("disk_free_bytes", "Free on the database's file system.").add(free)
    yield _gauge("disk_size_bytes", "Size of the database's file system.").add(size)


def _of_results(status: DaemonStatus) -> Iterator[Metric]:
    made = _counter("results", "Judgements since the daemon started, by status and class.")
    kinds = {(word.value, ""): 0 for word in (Status.REJECTED, Status.ERROR)}
    for row in status.told.get("results") or ():
        match row:
            case [str() as word, str() as label, int() as number]:
                kinds[word, label] = number
    for (word, label), number in kinds.items():
        made.add(number, **{"status": word, "class": label})
    yield made
    sums: dict[tuple[str, str], int] = {}
    for one in status.stored.by_kind if status.stored is not None else ():
        key = one.status.value, one.label or ""
        sums[key] = sums.get(key, 0) + one.count
    rows = _gauge("stored_results", "Results in the database, by status and class; pruning takes some away.")
    for (word, label), number in sorted(sums.items()):
        rows.add(number, **{"status": word, "class": label})
    yield rows


def _of_queue(status: DaemonStatus) -> Iterator[Metric]:
    counts = None if status.stored is None else status.stored.counts
    if counts is None:
        return
    oldest = status.seconds_since(counts.oldest_pending_us)
    yield _gauge("pending", "Images that wait to be judged.").add(counts.pending)
    yield _gauge("retrying", "Of those, images that are tried again.").add(counts.retrying)
    yield _gauge("oldest_pending_seconds", "How long the oldest of them has waited.").add(oldest or 0.0)
    yield _gauge("quarantined", "Images that were given up.").add(counts.quarantined)
    yield _gauge("moves_due", "Judged files that are still to be moved away.").add(counts.moves_due)


def _of_time(status: DaemonStatus) -> Iterator[Metric]:
    beat = status.beat
    if beat is None:
        return
    age = status.seconds_since(status.turned_us if status.lives else beat.updated_us)
    yield _gauge("heartbeat_age_seconds", "Since the daemon's loop was last known to turn.").add(age)
    yield _gauge("start_time_seconds", "When the daemon started, Unix time.").add(beat.started_us / 1e6)
    last = None if status.stored is None else status.stored.last_result_us
    yield _gauge("last_result_age_seconds", "Since the last result.").add(status.seconds_since(last))


def _of_inboxes(status: DaemonStatus) -> Iterator[Metric]:
    found = inboxes(status)
    if not found:
        return
    states = _gauge("inbox_state", "Inboxes in each state.")
    for state in _INBOX_STATES:
        states.add(sum(inbox.get("state") == state for inbox in found), state=state)
    yield states
    scans = [inbox["last_scan_us"] for inbox in found if isinstance(inbox.get("last_scan_us"), int)]
    age = status.seconds_since(min(scans, default=None))
    yield _gauge("last_scan_age_seconds", "Since the last whole scan, of the inbox scanned longest ago.").add(
        age
    )


def _of_workers(told: Mapping[str, Any]) -> Iterator[Metric]:
    workers = _gauge("workers", "Worker processes: as many as wanted, ready, without progress.")
    census = _part(told, "workers")
    for state in ("wanted", "ready", "stuck"):
        workers.add(_number(census.get(state)), state=state)
    yield workers
    restarts = _number(told.get("lane_restarts"))
    yield _counter("lane_restarts", "Worker processes that were replaced since the start.").add(restarts)
    failures = _number(_part(told, "counters").get("store_failures"))
    words = "Commits that the database refused since the start; each is tried again."
    yield _counter("store_failures", words).add(failures)


def _of_remote_workers(status: DaemonStatus) -> Iterator[Metric]:
    if not status.lives:
        return
    found = remote_workers(status.told_alive, status.now_us)
    joined = [one for one in found if not one.get("refused")]
    workers = _gauge("remote_workers", "Workers on other machines: joined, refused.")
    workers.add(len(joined), state="joined").add(len(found) - len(joined), state="refused")
    yield workers
    lanes, rates = ([_number(one.get(key)) or 0 for one in joined] for key in ("lanes", "images_per_second"))
    yield _gauge("remote_lanes", "Lanes of the workers that have joined.").add(sum(lanes))
    yield _gauge("remote_images_per_second", "Images that they judge each second.").add(sum(rates))
    silent = [one["last_heard_seconds"] for one in joined if one["last_heard_seconds"] is not None]
    words = "Since the worker that has been silent longest was heard of."
    yield _gauge("remote_last_heard_seconds", words).add(max(silent, default=None))


def _of_drift(status: DaemonStatus) -> Iterator[Metric]:
    index = _gauge("drift_index", "Population stability index of the latest images against the model's.")
    images = _gauge("drift_images", "Images that the index is of.")
    drifting = _gauge("drift", "Whether the latest images differ from those the model was made for.")
    known = {name: one for name, one in drift_findings(status).items() if one.get("state") != "not known"}
    for name, found in sorted(known.items()):
        index.add(_number(found.get("index")), statistic=name)
        images.add(_number(found.get("images")), statistic=name)
        drifting.add(found.get("state") == "drift", statistic=name)
    yield from (index, images, drifting)


def _build_info(told: Mapping[str, Any]) -> Metric:
    engine, model = _part(told, "engine"), _part(told, "model")
    labels = {
        "version": program_version(),
        "engine": str(engine.get("name", "")),
        "precision": str(engine.get("precision", "")),
        "weights": str(model.get("weights_sha256", ""))[:SHORT_HASH],
    }
    return _gauge("build_info", "What the daemon is and judges with; always 1.").add(1, **labels)


def _part(told: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a part of what the daemon said, empty where a version did not say it."""
    part = told.get(name)
    return part if isinstance(part, dict) else {}


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) else None
