"""How long a bucket of very many keys takes to be listed into the ledger, and in how much memory.

    python -m tests.benchmark.object_listing [--keys 100000] [--store local|moto] [--json FILE]

The inbox itself is measured: listing, identity, the question which are new, the ledger's rows. Then once
more, with all known, as every later listing is. The server runs beside it on the same machine and is slower.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from config.store_url import parse_store_url
from daemon.clock import SystemClock
from daemon.inbox.filters import InboxRules
from daemon.store.store_inbox import StoreInbox
from tests.support.ledgers import open_store
from tests.support.object_store import object_server


def main() -> int:
    """Measure, print and return 0 if every key has a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--store", choices=("local", "moto"), default="local")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bt-listing-") as name, ExitStack() as stack:
        url = _filled(options.store, options.keys, Path(name), stack)
        told = {"store": options.store, "keys": options.keys, **_listed(url, Path(name) / "results.db")}
    print(json.dumps(told))
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    return int(told["rows"] != options.keys)


def _filled(kind: str, keys: int, folder: Path, stack: ExitStack) -> str:
    names = (f"in/{number // 1000:04}/{number:07}.png" for number in range(keys))
    if kind == "local":
        for name in names:
            place = folder / "bucket" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"x")
        return f"file://{folder}/bucket/in"
    server = stack.enter_context(object_server())
    os.environ.update(server.environment)
    client = server.client()
    client.create_bucket(Bucket="mri")
    for name in names:
        client.put_object(Bucket="mri", Key=name, Body=b"x")
    return "s3://mri/in"


def _listed(url: str, database: Path) -> dict[str, Any]:
    store = open_store(database)
    clock, rules = SystemClock(), InboxRules(once=True, rescan_seconds=0.0)
    before = _peak_mb()
    seconds = []
    with StoreInbox(
        parse_store_url(url), store.inbox_id, rules, store.ledger.unknown, lambda: None, clock,
        logging.getLogger("benchmark"),
    ) as inbox:  # fmt: skip
        for _ in range(2):
            inbox._finished = None
            inbox.start()
            began = time.monotonic()
            while not inbox.idle():
                if found := inbox.step():
                    store.ledger.add(found)
                else:
                    time.sleep(0.001)
            seconds.append(time.monotonic() - began)
    rows = store.connection.exec_driver_sql("SELECT count(*) FROM file").scalar_one()
    store.close()
    return {
        "rows": rows,
        "first_listing_seconds": round(seconds[0], 1),
        "known_listing_seconds": round(seconds[1], 1),
        "peak_mb": round(_peak_mb()),
        "peak_mb_before": round(before),
        "load_average": round(os.getloadavg()[0], 1),
    }


def _peak_mb() -> float:
    """Return this process's largest resident memory so far, MB; servers are others."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
