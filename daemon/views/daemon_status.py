"""Status of a daemon: whether it works on a database, and how it is.

The lock says whether one lives, whatever it says itself; its heartbeat says how it is, or was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from config.text import printable
from daemon.output.cells import ago, clock_time, iso_time
from daemon.output.facts import Style, pairs
from daemon.output.result_columns import SHORT_HASH
from daemon.output.words import counted
from daemon.views.worker_status import remote_worker_facts, remote_workers

if TYPE_CHECKING:
    from storage.ledger.heartbeat import Heartbeat
    from storage.lock import LockHolder
    from storage.queries.status import StatusSnapshot
    from storage.queries.totals import Totals

# A daemon reports about once a second; one that was silent for so long is busy or stuck.
SILENT_SECONDS = 15.0
# What it counts drift by is its own memory, of no use to anybody else; workers are told with their ages.
_NOT_REPORTED = {"drift", "remote_workers"}


class Life(StrEnum):
    """What can be said of the daemon."""

    RUNNING = "running"
    STARTING = "starting"  # it holds the lock and has not reported yet
    SILENT = "silent"  # it holds the lock, and has not reported for a while
    STOPPED = "stopped"
    DIED = "died"  # it ended without a word
    NEVER = "never"  # none ever ran on this database


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """All that `status` tells."""

    life: Life
    pid: int | None  # of the living daemon
    database: str
    now_us: int
    stored: StatusSnapshot | None  # None: there is no database yet
    held_up: str = ""  # what the living daemon says beside its lock, where a full disk cannot silence it
    turned_us: int | None = None  # when its loop was last known to turn, by its heartbeat or beside its lock

    @property
    def beat(self) -> Heartbeat | None:
        """What the daemon that started last said last."""
        return None if self.stored is None else self.stored.heartbeat

    @property
    def told(self) -> Mapping[str, Any]:
        """What that was about, as it wrote it."""
        return {} if self.beat is None else self.beat.snapshot

    @property
    def told_alive(self) -> Mapping[str, Any]:
        """The same of a daemon that lives, of any other nothing."""
        return self.told if self.lives else {}

    @property
    def lives(self) -> bool:
        """Whether a daemon holds the database's lock."""
        return self.pid is not None

    @property
    def trouble(self) -> str:
        """What holds the work up, '' if nothing does."""
        return self.held_up or str(self.told.get("trouble") or "")

    @property
    def reports_late(self) -> bool:
        """Whether the living daemon's loop turns and its heartbeat does not get into the database."""
        late = self.beat is not None and self.now_us - self.beat.updated_us > SILENT_SECONDS * 1e6
        return late and self.life is Life.RUNNING

    @property
    def images_per_second(self) -> float:
        """The mean over the last minute, or since the start if that is later; 0 when none lives."""
        if self.stored is None or not self.lives:
            return 0.0
        alive = self.seconds_since(self.beat.started_us if self.beat else None)
        return self.stored.results_last_minute / min(60.0, max(1.0, 60.0 if alive is None else alive))

    def seconds_since(self, time_us: int | None) -> float | None:
        """Return how long ago a stored time was; never negative, whatever the clock did."""
        return None if time_us is None else max(0.0, (self.now_us - time_us) / 1e6)


def daemon_status(
    stored: StatusSnapshot | None, holder: LockHolder, database: str, now_us: int
) -> DaemonStatus:
    """Put together what is told beside the lock and what the database says."""
    beat = None if stored is None else stored.heartbeat
    turned_us = max((beat.updated_us if beat else 0, holder.turned_us or 0)) or None
    life = _life(beat, holder, turned_us, now_us)
    pid = beat.pid if beat is not None and holder.pid == 0 else holder.pid
    return DaemonStatus(life, pid, database, now_us, stored, holder.trouble, turned_us)


def _life(beat: Heartbeat | None, holder: LockHolder, turned_us: int | None, now_us: int) -> Life:
    if holder.pid is not None:
        has_reported = beat is not None and holder.pid in (beat.pid, 0)
        if not has_reported and holder.turned_us is None:
            return Life.STARTING
        silent = now_us - (turned_us or 0) > SILENT_SECONDS * 1e6
        return Life.SILENT if silent else Life.RUNNING if has_reported else Life.STARTING
    if beat is None:
        return Life.NEVER
    return Life.DIED if beat.stopped_us is None else Life.STOPPED


def status_as_dict(status: DaemonStatus, zone: tzinfo) -> dict[str, Any]:
    """Return the status as what becomes its JSON object; ages are in seconds."""
    beat, stored = status.beat, status.stored
    counts = None if stored is None else stored.counts
    scans = [inbox.get("last_scan_us") for inbox in inboxes(status)]
    oldest = counts.oldest_pending_us if counts else None
    return {
        "running": status.lives,
        "state": status.life.value,
        "pid": status.pid,
        "host": beat.host if beat else None,
        "started": _iso(beat.started_us if beat else None, zone),
        "last_seen": _iso(beat.updated_us if beat else None, zone),
        "stopped": _iso(beat.stopped_us if beat else None, zone),
        "database": status.database,
        "engine": status.told.get("engine"),
        "model": status.told.get("model"),
        "inboxes": [_inbox_as_dict(inbox, status, zone) for inbox in inboxes(status)],
        "results": stored.results if stored else 0,
        "by_status": {word.value: number for word, number in stored.by_status.items()} if stored else {},
        "images_per_second": round(status.images_per_second, 2),
        "pending": counts.pending if counts else 0,
        "retrying": counts.retrying if counts else 0,
        "quarantined": counts.quarantined if counts else 0,
        "moves_due": counts.moves_due if counts else 0,
        "move_troubles": dict(stored.move_troubles) if stored else {},
        "oldest_pending": _iso(oldest, zone),
        "oldest_pending_seconds": status.seconds_since(oldest),
        "last_result": _iso(stored.last_result_us if stored else None, zone),
        "last_scan_seconds": status.seconds_since(min((scan for scan in scans if scan), default=None)),
        "found_by_scan_only": sum(int(inbox.get("found_by_scan_only", 0)) for inbox in inboxes(status)),
        "trouble": status.trouble or None,
        "last_error": status.told.get("last_error") or None,
        "drift": drift_findings(status),
        "remote_workers": remote_workers(status.told_alive, status.now_us),
        "reported": {key: value for key, value in status.told.items() if key not in _NOT_REPORTED},
        **({} if stored is None or stored.totals is None else _totals_as_dict(stored.totals)),
    }


def _totals_as_dict(found: Totals) -> dict[str, Any]:
    return {"images": found.images, "models": found.models}


def _iso(time_us: int | None, zone: tzinfo) -> str | None:
    return None if time_us is None else iso_time(time_us, zone)


def drift_findings(status: DaemonStatus) -> dict[str, dict[str, Any]]:
    """Return what the daemon found of each statistic that it compares with the model's reference figures."""
    told = status.told.get("drift")
    found = told.get("findings") if isinstance(told, dict) else None
    if not isinstance(found, dict):
        return {}
    return {str(name): one for name, one in found.items() if isinstance(one, dict)}


def inboxes(status: DaemonStatus) -> list[dict[str, Any]]:
    """Return what the daemon said of each inbox."""
    found = status.told.get("inboxes", [])
    return [inbox for inbox in found if isinstance(inbox, dict)] if isinstance(found, list) else []


def _inbox_as_dict(inbox: dict[str, Any], status: DaemonStatus, zone: tzinfo) -> dict[str, Any]:
    last = inbox.get("last_scan_us")
    rest = {key: value for key, value in inbox.items() if key != "last_scan_us"}
    return {**rest, "last_scan": _iso(last, zone), "last_scan_seconds": status.seconds_since(last)}


def status_as_text(
    status: DaemonStatus, zone: tzinfo, style: Style, *, judgements: Sequence[tuple[str, str]] = ()
) -> str:
    """Return the status for a person, the most important first; `judgements` are facts to begin with."""
    facts = [*judgements, *_facts(status, zone)]
    blocks = [_headline(status, zone, style), pairs(facts, style, indent="  ")]
    blocks += [_inbox_as_text(inbox, status, style) for inbox in inboxes(status)]
    if elsewhere := remote_worker_facts(status.told_alive, status.now_us):
        blocks.append(f"  workers on other machines\n{pairs(elsewhere, style, indent='    ')}")
    return "\n".join(block for block in blocks if block)


def headline(status: DaemonStatus, zone: tzinfo) -> str:
    """Return in one line whether a daemon works, and since when it does or does not."""
    beat = status.beat
    turned_us = status.turned_us if status.lives else beat.updated_us if beat else None
    silence = ago(status.seconds_since(turned_us) or 0)
    seen = clock_time(beat.updated_us, zone) if beat else ""
    since = clock_time(beat.started_us, zone) if beat else ""
    return {
        Life.RUNNING: f"running since {since} (pid {status.pid})",
        Life.STARTING: f"starting (pid {status.pid})",
        Life.SILENT: f"running (pid {status.pid}), but silent for {silence}: busy or stuck",
        Life.STOPPED: f"not running; ended {seen}",
        Life.DIED: f"not running; last seen {seen}, {silence} ago; ended without saying goodbye",
        Life.NEVER: "not running; none ever ran on this database",
    }[status.life]


def _headline(status: DaemonStatus, zone: tzinfo, style: Style) -> str:
    color = {Life.RUNNING: "green", Life.DIED: "red"}.get(status.life, "yellow")
    return style(headline(status, zone), color, bold=True)


def _facts(status: DaemonStatus, zone: tzinfo) -> list[tuple[str, str]]:
    facts = [("database", printable(status.database))]
    facts += [
        ("model", _model_text(status.told.get("model"))),
        ("engine", _engine_text(status.told.get("engine"))),
    ]
    if status.stored is None:
        return [*facts, ("results", "none yet; start with bt-daemon watch DIR")]
    last = status.stored.last_result_us
    return [
        *facts,
        ("results", _results_text(status)),
        ("last result", "" if last is None else f"{clock_time(last, zone)}, {_age(status, last)} ago"),
        ("speed", f"{status.images_per_second:.1f} images/s over the last minute" if status.lives else ""),
        ("waiting", _waiting_text(status)),
        ("given up", _given_up_text(status)),
        ("moves", moves_text(status.stored.move_troubles)),
        ("lanes", _lanes_text(status) if status.lives else ""),
        ("trouble", printable(status.trouble) if status.lives else ""),
        ("last error", printable(str(status.told.get("last_error") or ""))),
        ("drift", drift_text(status)),
    ]


def _model_text(value: object) -> str:
    if not isinstance(value, dict):
        return printable(str(value or ""))
    parts = (value.get("name"), value.get("version"), str(value.get("weights_sha256", ""))[:SHORT_HASH])
    return printable(" ".join(str(part) for part in parts if part))


def _engine_text(value: object) -> str:
    if not isinstance(value, dict):
        return printable(str(value or ""))
    engine = f"{value.get('name', '')} {value.get('precision', '')} on {value.get('device', '')}"
    return printable(f"{engine}: {value['why']}" if value.get("why") else engine)


def _results_text(status: DaemonStatus) -> str:
    assert status.stored is not None
    parts = [f"{number} {word.value}" for word, number in status.stored.by_status.items() if number]
    found = status.stored.totals
    several = found is not None and found.images != found.judgements
    number = counted(found) if found is not None and several else f"{status.stored.results}"
    return number + (f" ({', '.join(parts)})" if parts else "")


def _waiting_text(status: DaemonStatus) -> str:
    assert status.stored is not None
    counts = status.stored.counts
    if not counts.pending:
        return "nothing"
    retrying = f", {counts.retrying} of them for another try" if counts.retrying else ""
    oldest = f"; the oldest for {_age(status, counts.oldest_pending_us)}" if counts.oldest_pending_us else ""
    return f"{counts.pending}{retrying}{oldest}"


def _given_up_text(status: DaemonStatus) -> str:
    assert status.stored is not None
    number = status.stored.counts.quarantined
    return f"{number} (see bt-daemon errors)" if number else ""


def moves_text(troubles: Mapping[str, int]) -> str:
    """Return how many finished files cannot be moved away, by cause; '' if all can."""
    parts = [f"{number} ({printable(reason)})" for reason, number in sorted(troubles.items())]
    return f"{', '.join(parts)} cannot be moved away yet; tried again by themselves" if parts else ""


def _lanes_text(status: DaemonStatus) -> str:
    restarts = status.told.get("lane_restarts")
    return f"{restarts} replaced after a crash or a decoder that hung" if restarts else ""


def drift_text(status: DaemonStatus) -> str:
    """Return in one line whether the latest images are like those the model was made for; '' if not told."""
    findings = drift_findings(status)
    parts = [_drift_part(name, findings[name]) for name in sorted(findings)]
    images = max((found.get("images") or 0 for found in findings.values()), default=0)
    return printable(f"{'; '.join(parts)}; of the latest {images:,} images") if parts else ""


def _drift_part(name: str, found: Mapping[str, Any]) -> str:
    share, expected, index = (found.get(key) for key in ("share", "expected", "index"))
    numbers = [] if index is None else [f"index {index:.2f}"]
    if share is not None and expected is not None:
        numbers.insert(0, f"{share:.1%}, expected {expected:.1%}")
    return f"{name}: {found.get('state', '?')}" + (f" ({', '.join(numbers)})" if numbers else "")


def _age(status: DaemonStatus, time_us: int | None) -> str:
    return ago(status.seconds_since(time_us) or 0)


def _inbox_as_text(inbox: dict[str, Any], status: DaemonStatus, style: Style) -> str:
    state, why = printable(str(inbox.get("state", ""))), printable(str(inbox.get("why") or ""))
    last = inbox.get("last_scan_us")
    numbers = (
        ("incomplete", "waiting", "files that are not known to be complete"),
        ("by scan", "found_by_scan_only", "images that no event had announced"),
        ("overflows", "overflows", "times the kernel dropped events; a scan found what they were"),
        ("odd", "odd_entries", "entries that are no regular files: never read"),
    )
    facts = [
        ("state" if status.lives else "was", f"{state}: {why}" if why else state),
        ("last scan", f"{_age(status, last)} ago" if last else ""),
        ("passed over", printable(str(inbox.get("passed_over_kinds") or ""))),
        *((name, f"{inbox[key]} {words}" if inbox.get(key) else "") for name, key, words in numbers),
    ]
    return f"  inbox {printable(str(inbox.get('path', '?')))}\n{pairs(facts, style, indent='    ')}"
