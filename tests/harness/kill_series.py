"""Kill the daemon at random moments while slices come, go and change: every verdict follows its rows.

    python -m tests.harness.kill_series --kills 200 --images 2000

Between the kills slices are overwritten, deleted, moved to another folder, pruned and retried, and two models
take turns. A shorter form runs with the tests (tests/daemon/commands/test_watch_series.py).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.database import open_reader
from tests.support.daemons import bt_daemon, count, running
from tests.support.models import own_model
from tests.support.series import verdicts, verdicts_of_rows
from trainer.images.phantom import phantom

_SLICES = 40  # of a series
_PATTERN = r"(?P<patient>p\d+)_(?P<series>s\d+)_(?P<position>\d+)"


def main() -> int:
    """Run the harness and return 0 if every verdict is the one that its rows lead to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        told = kill_and_compare(Path(name), options.kills, options.images, random.Random(options.seed))
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    return int((told["verdicts_that_differ"], told["integrity"], told["exit_codes"]) != (0, "ok", [0, 0]))


@dataclass
class _Slices:
    """The files of an inbox, and what becomes of them."""

    inbox: Path
    chance: random.Random
    written: int = 0
    there: list[Path] = field(default_factory=list)
    touched: dict[str, int] = field(default_factory=dict)

    def write(self, number: int) -> None:
        for _ in range(number):
            name = f"p{self.written // (2 * _SLICES)}_s{self.written // _SLICES:03}_{self.written:06}.png"
            self._save(self.inbox / name)
            self.there.append(self.inbox / name)
            self.written += 1

    def disturb(self) -> None:
        """Overwrite, delete and move away one of the slices each."""
        for what in ("overwritten", "deleted", "moved"):
            if len(self.there) < 3:
                return
            place = self.there.pop(self.chance.randrange(len(self.there)))
            if what == "overwritten":
                self._save(place)
                self.there.append(place)
            elif what == "deleted":
                place.unlink(missing_ok=True)
            else:
                (self.inbox / "later").mkdir(exist_ok=True)
                self.there.append(place.rename(self.inbox / "later" / place.name))
            self.touched[what] = self.touched.get(what, 0) + 1

    def _save(self, place: Path) -> None:
        picture = phantom(
            self.chance.randrange(10_000), lesion=self.chance.random() < 0.5, size=64, label=False
        )
        picture.save(place)


def kill_and_compare(folder: Path, kills: int, images: int, chance: random.Random) -> dict[str, Any]:
    """Return what became of the rows and verdicts."""
    database = folder / "results.db"
    models = [[], ["--weights", str(own_model(folder / "mine.safetensors"))]]
    slices = _Slices(folder / "inbox", chance)
    slices.inbox.mkdir()
    for number in range(kills):
        slices.write(min(-(-images // kills), images - slices.written))
        slices.disturb()
        options = [*models[number // 10 % 2], *(["--reclassify"] if number % 7 == 0 else [])]
        log = folder / f"{number}.log"
        arguments: tuple[str | Path, ...] = (
            slices.inbox,
            "--series",
            _PATTERN,
            "--settle",
            "100ms",
            *options,
        )
        with running(*arguments, database=database, log=log, watching=False) as daemon:
            if number % 4:  # else at any moment of the start
                daemon.wait_until_watching()
            time.sleep(chance.uniform(0.05, 1.2))
            if number % 9 == 8:  # while it works
                bt_daemon("db", "prune", "--before", "20s ago", "--yes", "--db", database)
                bt_daemon("retry", "--all", "--db", database)
            daemon.kill()
        print(f"\rkill {number + 1} of {kills}, rows {count(database)}", end="", file=sys.stderr, flush=True)
    ended = []
    for options in models:
        last: list[str | Path] = ["watch", slices.inbox, "--once", "--reclassify", "--series", _PATTERN]
        ended.append(bt_daemon(*last, *options, "--db", database, timeout=600).returncode)
    told = {"kills": kills, "images": slices.written, **slices.touched, **_compared(database)}
    told["exit_codes"] = ended
    print(f"\n{json.dumps(told)}")
    return told


def _compared(database: Path) -> dict[str, Any]:
    with closing(open_reader(str(database))) as connection:
        stored, wanted = verdicts(connection), verdicts_of_rows(connection)
        integrity = connection.exec_driver_sql("PRAGMA integrity_check").scalar_one()
    differ = sum(stored.get(key) != wanted.get(key) for key in stored.keys() | wanted.keys())
    return {
        "rows": count(database),
        "verdicts": len(stored),
        "verdicts_that_differ": differ,
        "integrity": integrity,
    }


if __name__ == "__main__":
    sys.exit(main())
