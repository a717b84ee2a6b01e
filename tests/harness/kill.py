"""Kill the daemon at random moments, restart it, and count: nothing lost, nothing doubled.

    python -m tests.harness.kill --kills 200 --images 2000 [--db postgresql]

With `--db postgresql` the database lies on a server that is started for it. A shorter form runs with the
tests (tests/daemon/commands/test_watch_command.py).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support.daemons import bt_daemon, count, running
from tests.support.databases import KINDS, Target, new_database, raw, soundness
from trainer.images.phantom import phantom


def main() -> int:
    """Run the harness and return 0 if the database holds exactly one row per image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--db", choices=KINDS, default="sqlite", help="kind of database")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, new_database(options.db, Path(name)) as database:
        told = {"database": options.db, **_harness(Path(name), database, options)}
    print(f"\n{json.dumps(told)}")
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    wanted = (options.images, 0, 0, "ok", 0)
    return int(tuple(told[key] for key in ("rows", "lost", "doubled", "integrity", "exit_code")) != wanted)


def _harness(folder: Path, database: Target, options: argparse.Namespace) -> dict[str, Any]:
    inbox, draw_from = folder / "inbox", random.Random(options.seed)
    kills, images = options.kills, options.images
    inbox.mkdir()
    picture = phantom(1, lesion=True, size=64, label=False)
    written = 0
    for number in range(kills):
        # Images keep arriving while the daemon is up, down or starting.
        for _ in range(-(-images // kills)):
            if written < images:
                picture.putpixel((written % 64, written // 64 % 64), 200)
                picture.save(inbox / f"{written:06}.png")
                written += 1
        with running(inbox, database=database, log=folder / "daemon.log", watching=False) as daemon:
            time.sleep(draw_from.uniform(0.05, 1.6))
            daemon.kill()
        print(f"\rkill {number + 1} of {kills}, rows {count(database)}", end="", file=sys.stderr, flush=True)
    done = bt_daemon("watch", inbox, "--once", "--db", database, timeout=600)
    query = "SELECT count(*), count(DISTINCT file_id), count(*) - count(DISTINCT file_id) FROM result"
    rows, files, twice = raw(database, query)[0]
    return {
        "images": images, "kills": kills, "rows": rows, "lost": images - files, "doubled": twice,
        "integrity": soundness(database), "exit_code": done.returncode,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
