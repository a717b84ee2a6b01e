"""A daemon and its workers on network namespaces, each a host: how it scales, and what troubles do to it.

    python -m tests.scale_harness --workers 8 --sleep 20ms
    python -m tests.scale_harness --workers 8 --kills 50 --cut-link --kill-head --restart-database

Daemon, workers, TLS and network are real; only the lanes sleep instead of computing (`--sleep`, an image).
Without a trouble the same images are put before one worker first, and compared. Troubles are done all in one
run. With `--db postgresql` the database lies on a real server, started here, which `--restart-database` lets
crash. Figures go to tests/measured/scale-*.json. Needs root; other machines end with one line and 2.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from config.parse import duration
from tests.conftest import REPOSITORY
from tests.harness.scale.cluster import Cluster
from tests.harness.scale.engines import ENGINES
from tests.harness.scale.hosts import Hosts, why_impossible
from tests.harness.scale.run import machine, measured
from tests.harness.scale.troubles import CutLink, KillHead, KillWorkers, RestartDatabase, Trouble
from tests.support.postgresql_server import NoServerError
from tests.support.server_control import restartable_server

_HOSTS = 3
_MOST_NOTICED_SECONDS = 30.0
_MOST_WRITER_MS = 0.2
_LEAST_EFFICIENCY = 0.9  # 7.2 of 8


def main() -> int:
    """Run what is asked for; return 0 if nothing is lost or doubled, and the bounds of the speed hold."""
    options = _options()
    if why := why_impossible():
        print(f"scale_harness: {why}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that namespaces and processes are removed
    folder = Path(tempfile.mkdtemp(prefix="bt-scale-", dir="/dev/shm"))  # memory that all see
    try:
        told = _harness(options, folder)
    except NoServerError as error:
        print(f"scale_harness: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f"scale_harness: {error}", file=sys.stderr)
        return 1
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(told, indent=1))
    place = options.json or REPOSITORY / "tests" / "measured" / f"scale-{_name(options)}.json"
    place.write_text(json.dumps(told, indent=1) + "\n")
    for line in told["short_of"]:
        print(f"scale_harness: {line}", file=sys.stderr)
    return int(bool(told["short_of"]))


def _harness(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = {
        "command": " ".join(["python -m tests.scale_harness", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine_before": machine(),
        "hosts": _HOSTS,
        "sleep_ms": options.sleep * 1e3,
    }
    troubles = _troubles(options)
    with Hosts(_HOSTS) as hosts, ExitStack() as stack:
        server = stack.enter_context(restartable_server()) if options.db == "postgresql" else None

        def run(name: str, workers: int, troubles: list[Trouble]) -> dict[str, Any]:
            place = folder / name
            place.mkdir()
            database = str(place / "results.db")
            if server is not None:
                database = stack.enter_context(server.database(empty=True))
            cluster = Cluster(
                hosts, ENGINES[options.engine], place, folder / "cache", database, options.sleep
            )
            return measured(cluster, workers, options.images, troubles)

        if not troubles:
            told["one"] = run("one", 1, [])
        told["many"] = run("many", options.workers, troubles)
    if not troubles:
        told["times_one"] = round(told["many"]["images_per_second"] / told["one"]["images_per_second"], 2)
    told["machine_after"] = machine()
    told["short_of"] = _short_of(told, options)
    return told


def _troubles(options: argparse.Namespace) -> list[Trouble]:
    wanted: list[tuple[bool, Callable[[], Trouble]]] = [
        (options.kills > 0, lambda: KillWorkers(options.kills, random.Random(options.seed))),
        (options.cut_link, lambda: CutLink(_HOSTS - 1, random.Random(options.seed))),
        (options.kill_head, KillHead),
        (options.restart_database, RestartDatabase),
    ]
    return [make() for asked, make in wanted if asked]


def _short_of(told: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """Return a line for everything that is not as it must be."""
    found = []
    for name in ("one", "many"):
        run = told.get(name, {})
        found += [
            f"{name}: {run[what]} {what}" for what in ("lost", "doubled", "errors", "wrong") if run.get(what)
        ]
    if "times_one" in told and told["times_one"] < _LEAST_EFFICIENCY * options.workers:
        found.append(f"only {told['times_one']} times one worker")
    if "times_one" in told and told["many"]["writer_cpu_ms_an_image"] > _MOST_WRITER_MS:
        found.append(f"the writer took {told['many']['writer_cpu_ms_an_image']} ms of CPU an image")
    if (cut := told["many"].get("cut_link")) is not None:
        noticed = cut["noticed_seconds"]
        if noticed is None or noticed > _MOST_NOTICED_SECONDS:
            found.append(f"a cut link was noticed after {noticed} s")
    return found


def _name(options: argparse.Namespace) -> str:
    """Return the middle of the name of the file with the figures."""
    names = [
        f"kills-{options.kills}" if options.kills else "",
        "cut-link" if options.cut_link else "",
        "kill-head" if options.kill_head else "",
        "restart-database" if options.restart_database else "",
    ]
    kind = "-postgresql" if options.db == "postgresql" and not options.restart_database else ""
    return ("-".join(filter(None, names)) or f"{options.workers}-workers") + kind


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.scale_harness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--sleep", type=duration, default=0.02, help="of a lane for every image: 20ms")
    parser.add_argument("--images", type=int, help="4,000; with kills 400 for each and at least 20,000")
    parser.add_argument("--engine", choices=sorted(ENGINES), default="dask")
    parser.add_argument("--kills", type=int, default=0, help="of random workers, new ones in their place")
    parser.add_argument("--cut-link", action="store_true", help="of one host, for 45 s")
    parser.add_argument("--kill-head", action="store_true", help="the daemon, which is started again")
    parser.add_argument("--db", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--restart-database", action="store_true", help="a PostgreSQL server, which crashes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="database, records and logs")
    parser.add_argument("--json", type=Path, help="the figures go here instead")
    options = parser.parse_args()
    if options.restart_database:
        options.db = "postgresql"
    if options.images is None:
        troubled = options.kills or options.cut_link or options.kill_head or options.restart_database
        options.images = max(20_000, 400 * options.kills) if troubled else 4000
    return options


if __name__ == "__main__":
    sys.exit(main())
