"""Status of workers on other machines: who judges how quickly, who was refused and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from config.text import printable
from daemon.output.cells import ago


def remote_workers(told: Mapping[str, Any], now_us: int) -> list[dict[str, Any]]:
    """Return the workers that a daemon told of, with the seconds since each was heard of last."""
    found = told.get("remote_workers")
    return (
        [_with_age(one, now_us) for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    )


def remote_worker_facts(told: Mapping[str, Any], now_us: int) -> list[tuple[str, str]]:
    """Return name and state of each worker, in words."""
    return [
        (printable(str(one.get("name", "?"))), printable(_state(one))) for one in remote_workers(told, now_us)
    ]


def _with_age(worker: dict[str, Any], now_us: int) -> dict[str, Any]:
    heard = worker.get("heard_us")
    seconds = max(0.0, (now_us - heard) / 1e6) if isinstance(heard, int) else None
    return {key: value for key, value in worker.items() if key != "heard_us"} | {
        "last_heard_seconds": seconds
    }


def _state(worker: dict[str, Any]) -> str:
    silence = worker["last_heard_seconds"]
    when = "" if silence is None else f"{ago(silence)} ago"
    if worker.get("refused"):
        return f"refused {when}: {worker['refused']}"
    lanes, rate = worker.get("lanes", 0), worker.get("images_per_second", 0.0)
    return f"{lanes} lane{'s' * (lanes != 1)}, {rate} images/s, heard of {when}"
