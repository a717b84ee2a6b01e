"""A PostgreSQL server that crashes and starts again under the daemon, in the middle of its batches."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.harness.troubles.support import put, until_rows
from tests.support.daemons import count, running
from tests.support.databases import raw, soundness

_IMAGES, _RESTARTS = 600, 10


def _restart(folder: Path) -> dict[str, Any]:
    from tests.support.server_control import restart, restartable_server

    inbox, draw_from = folder / "inbox", random.Random(0)
    inbox.mkdir()
    with (
        restartable_server() as server,
        server.database(empty=True) as url,
        running(inbox, database=url, log=folder / "daemon.log") as daemon,
    ):
        copying = threading.Thread(target=_copy_slowly, args=(inbox,))
        copying.start()
        away, until_stored = 0.0, []
        for _ in range(_RESTARTS):
            time.sleep(draw_from.uniform(0.2, 1.5))
            began = time.monotonic()
            restart(url)
            answers, before = time.monotonic(), count(url)
            away += answers - began
            if before < _IMAGES:
                until_rows(daemon, before + 1)
                until_stored.append(time.monotonic() - answers)
        copying.join()
        seconds = until_rows(daemon, _IMAGES)
        code = daemon.stop()
        rows, files = raw(url, "SELECT count(*), count(DISTINCT file_id) FROM result")[0]
        return {
            "restarts": _RESTARTS,
            "seconds_away": round(away, 1),
            "longest_seconds_until_stored_again": round(max(until_stored), 1),
            "seconds_until_all": seconds,
            "times_told": daemon.log.read_text().count("results are kept in memory"),
            "images": _IMAGES,
            "rows": rows,
            "files": files,
            "known_files": raw(url, "SELECT count(*) FROM file")[0][0],
            "integrity": soundness(url),
            "exit_code": code,
        }


def _copy_slowly(inbox: Path) -> None:
    for number in range(_IMAGES):
        put(inbox, range(number, number + 1))
        time.sleep(0.02)


TROUBLES: dict[str, Callable[[Path], dict[str, Any]]] = {"restart": _restart}
