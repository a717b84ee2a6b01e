"""Do to a running daemon what a machine may do to it, for as long as it takes, and count.

    python -m tests.harness.trouble [lock full root inbox-away lanes-killed] [--json FILE]

lock: another process holds the write lock for 60 s while images come. full: the database lies on a
file system that fills up, and gets room again (needs root, for a tmpfs). root: the inbox is deleted
and made again, renamed and replaced, while images come. inbox-away: the inbox is renamed away in a
backlog, and back. lanes-killed: six workers are killed in a row, then one a second. After each: one row
per image, none of a good image an error, the daemon alive, the database whole. database-deleted,
database-replaced: the daemon must end within seconds, with exit 3 and one line. read-error: one read of
the database fails (needs strace). done-folder-full, moves-blocked, lock-after-commit: finished files are
moved away meanwhile. restart: the server of a PostgreSQL database crashes and starts again, again and
again, while images come (needs PostgreSQL).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.harness.troubles import database, disk_and_inbox, lanes, moves, server
from tests.support.databases import KINDS

_TROUBLES = {
    **disk_and_inbox.TROUBLES, **moves.TROUBLES, **lanes.TROUBLES, **database.TROUBLES, **server.TROUBLES
}  # fmt: skip


def main() -> int:
    """Run the named troubles and return 0 if each left exactly one row per image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("troubles", nargs="*", metavar="TROUBLE", help=", ".join(_TROUBLES))
    parser.add_argument("--db", choices=KINDS, help="only what is done to this kind of database")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    told = []
    for name in options.troubles or [one for one in _TROUBLES if options.db in (None, _kind(one))]:
        with tempfile.TemporaryDirectory(prefix="bt-trouble-") as folder:
            told.append({"trouble": name, **_TROUBLES[name](Path(folder))})
        print(json.dumps(told[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    return int(not all(_held(one) for one in told))


def _kind(trouble: str) -> str:
    return "postgresql" if trouble in server.TROUBLES else "sqlite"


def _held(one: dict[str, Any]) -> bool:
    """Whether a trouble left one row per image, or ended the daemon loudly where it cannot go on."""
    if "ended_loudly" in one:
        return bool(one["ended_loudly"])
    exact = (one["rows"], one["integrity"]) == (one["images"], "ok")
    return exact and not one.get("good_images_as_errors")


if __name__ == "__main__":
    sys.exit(main())
