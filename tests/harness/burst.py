"""Drop very many images at once in front of a running daemon, and count: one row each, none doubled.

    python -m tests.harness.burst [--images 50000] [--folders 500] [--json FILE]

Two processes write while the daemon's interpreter is busy with what has come already. With --folders
the files go into folders made at that moment, nested two deep.
"""

from __future__ import annotations

import argparse
import io
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from tests.support.daemons import Daemon, count, running
from trainer.images.phantom import phantom

_WRITERS = 2
# Writes copies of one PNG, each with another comment, so that no two files are alike.
_WRITE = """
import os, struct, sys, zlib
picture, inbox, first, last, folders = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
data = open(picture, "rb").read()
end = data.rindex(b"IEND") - 4
for number in range(first, last):
    folder = inbox
    if folders:
        place = number % folders
        folder = os.path.join(inbox, f"study{place % 20}", f"series{place}")
        os.makedirs(folder, exist_ok=True)
    text = b"tEXtn\\0%d" % number
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    with open(os.path.join(folder, f"{number:06}.png"), "wb") as stream:
        stream.write(data[:end] + chunk + data[end:])
"""


def main() -> int:
    """Run the burst and return 0 if the database holds exactly one row per image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--folders", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bt-burst-") as name:
        told = _burst(Path(name), options.images, options.folders, options.minutes * 60)
    print(json.dumps(told))
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    return int((told["rows"], told["files"], told["integrity"]) != (options.images, options.images, "ok"))


def _burst(folder: Path, images: int, folders: int, seconds: float) -> dict[str, Any]:
    inbox, database = folder / "inbox", folder / "results.db"
    inbox.mkdir()
    stream = io.BytesIO()
    phantom(1, lesion=True, size=64, label=False).save(stream, "PNG")
    (folder / "one.png").write_bytes(stream.getvalue())
    with running(inbox, database=database) as daemon:
        began = time.monotonic()
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", _WRITE, str(folder / "one.png"), str(inbox),
                 str(images * number // _WRITERS), str(images * (number + 1) // _WRITERS), str(folders)]
            )
            for number in range(_WRITERS)
        ]  # fmt: skip
        written = max(writer.wait() for writer in writers)
        writing = time.monotonic() - began
        peak = _until_judged(daemon, images, began + seconds)
        took = time.monotonic() - began
        code = daemon.stop()
    connection = sqlite3.connect(database)
    rows, files = connection.execute("SELECT count(*), count(DISTINCT file_id) FROM result").fetchone()
    paths = connection.execute("SELECT count(*) FROM (SELECT DISTINCT folder_id, name FROM file)").fetchone()[
        0
    ]
    integrity = connection.execute("PRAGMA integrity_check").fetchone()[0]
    connection.close()
    return {
        "images": images, "folders": folders, "rows": rows, "files": files, "paths": paths,
        "integrity": integrity, "exit_code": code, "writers_failed": written,
        "writing_seconds": round(writing, 1), "seconds": round(took, 1),
        "images_per_second": round(images / took, 1), "daemon_peak_mb": round(peak / 1e6, 1),
    }  # fmt: skip


def _until_judged(daemon: Daemon, images: int, deadline: float) -> int:
    """Wait for all rows; return the largest memory of the daemon's own process, bytes."""
    process, peak, shown = psutil.Process(daemon.process.pid), 0, 0.0
    while (found := count(daemon.database)) < images and time.monotonic() < deadline:
        peak = max(peak, process.memory_info().rss)
        if time.monotonic() - shown > 5:
            shown = time.monotonic()
            print(f"rows {found} of {images}", file=sys.stderr, flush=True)
        time.sleep(0.5)
    return peak


if __name__ == "__main__":
    sys.exit(main())
