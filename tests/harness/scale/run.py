"""One run of a cluster: images are put before it, troubles are done to it, and what came of it is counted."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tests.harness.scale import inbox, records
from tests.harness.scale.cluster import Cluster, running
from tests.harness.scale.troubles import Trouble

_LOOK_SECONDS = 0.05
_SILENT_SECONDS = 150.0  # a cluster that stores nothing for so long never will
_LINGER_SECONDS = 5.0  # for answers that come late, from a host that was away


def measured(cluster: Cluster, workers: int, images: int, troubles: Sequence[Trouble] = ()) -> dict[str, Any]:
    """Return what came of `images` on `workers`: speed, CPU, rows, and what each trouble tells."""
    staged = cluster.folder / "staged"
    digests = inbox.fill(staged, images)
    with running(cluster, workers):
        before, sent = cluster.cpu(), cluster.hosts.traffic()
        began = time.monotonic()
        staged.rename(cluster.inbox / "images")
        _work(cluster, images, troubles)
        wall = time.monotonic() - began
        after, sent = cluster.cpu(), cluster.hosts.traffic() - sent
        if troubles:
            time.sleep(_LINGER_SECONDS)
    events = records.read(cluster.folder)
    times = inbox.times_stored(cluster.database)
    told: dict[str, Any] = {
        "workers": workers,
        "images": images,
        "images_per_second": round(images / wall, 1),
        "wall_seconds": round(wall, 2),
        **{
            f"{name}_cpu_ms_an_image": round((after[name] - before[name]) / images * 1e3, 4)
            for name in ("writer", "carrier")
        },
        "network_bytes_an_image": round(sent / images),
        **asdict(inbox.compare(cluster.database, digests)),
        "judged_twice": records.judged_twice(events),
        "longest_silence_seconds": _silence(times),
    }
    for trouble in troubles:
        told |= trouble.told(cluster)
    return told


def _work(cluster: Cluster, images: int, troubles: Sequence[Trouble]) -> None:
    """Return when all images are stored and all troubles over, or nothing happens any more."""
    done, changed = 0, time.monotonic()
    while done < images or not all(trouble.over() for trouble in troubles):
        now = inbox.stored(cluster.database)
        if now is not None and now != done:
            done, changed = now, time.monotonic()
        elif time.monotonic() > changed + _SILENT_SECONDS:
            print(
                f"\nnothing was stored for {_SILENT_SECONDS:.0f} s\n{cluster.last_lines()}", file=sys.stderr
            )
            return
        for trouble in troubles:
            trouble.turn(cluster, done / images)
        if sys.stderr.isatty():
            print(f"\r{done} of {images} images ", end="", file=sys.stderr, flush=True)
        time.sleep(_LOOK_SECONDS)


def _silence(times: Sequence[float]) -> float:
    return round(max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0), 2)


def machine() -> dict[str, Any]:
    """Return what else bears on the figures: cores and load of this machine."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }
