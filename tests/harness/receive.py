"""Kill the listener while two callers send: what is answered has a row, and every file is whole.

    python -m tests.harness.receive --objects 2000 --kills 20

A caller sends an object again until it is answered, as archives do. A daemon watches the same inbox. A
shorter form runs with the tests (tests/daemon/listen/test_kills.py).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import random
import sqlite3
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pynetdicom import _config

from tests.support.daemons import count, running, until
from tests.support.dicom_objects import CANARY_WORDS, mr_slice, planted, written
from tests.support.listeners import Listener, associated, caller, free_port, proposed

# Objects larger than this are refused; every so-manieth is.
_MOST_BYTES = 1 << 20
_TOO_LARGE_EVERY = 100
_REST_SECONDS = 0.05
# Of a caller whose listener was killed; pynetdicom notices no earlier.
_PATIENCE_SECONDS = 4.0


class _Caller(threading.Thread):
    """Sends its files one after the other, each until it is answered."""

    def __init__(self, port: int, paths: list[Path], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.answers: dict[Path, int] = {}
        self.comments: set[str] = set()
        self.sent = 0
        self.port, self.paths = port, paths

    def run(self) -> None:
        entity = caller(proposed(self.paths), self.name, _PATIENCE_SECONDS)
        while len(self.answers) < len(self.paths):
            with associated(self.port, entity) as association:
                while association.is_established and len(self.answers) < len(self.paths):
                    self._send(association, self.paths[len(self.answers)])
            time.sleep(_REST_SECONDS)

    def _send(self, association: Any, path: Path) -> None:
        self.sent += 1
        try:
            answer = association.send_c_store(path)
        except RuntimeError:  # the association ended between two objects
            return
        if "Status" in answer:
            self.answers[path] = int(answer.Status)
            self.comments.add(str(answer.get("ErrorComment", "")))


def received_with_kills(folder: Path, objects: int, kills: int, draw_from: random.Random) -> dict[str, Any]:
    """Send, kill, and return what came of it: counts, all of which but those sent should agree."""
    inbox, sources, database = folder / "inbox", folder / "objects", folder / "results.db"
    inbox.mkdir()
    sources.mkdir()
    paths = written(sources, objects)
    for number, path in enumerate(paths[:: max(1, min(_TOO_LARGE_EVERY, objects // 4))]):
        planted(mr_slice(number, size=1024), objects + number).save_as(path, enforce_file_format=True)
    port = free_port()
    callers = [_Caller(port, paths[half::2], f"SCANNER{half}") for half in (0, 1)]
    began = time.monotonic()
    with running(inbox, "--lanes", "1", database=database) as daemon:
        log, code = _under_fire(inbox, callers, [draw_from.uniform(0.0, 0.05) for _ in range(kills)])
        seconds = time.monotonic() - began
        answers = {path: status for one in callers for path, status in one.answers.items()}
        taken = {path for path, status in answers.items() if status == 0}
        until(lambda: count(database) >= len(taken), 300)
        daemon.stop()
    shown = daemon.log.read_text() + log + " ".join(os.listdir(inbox))
    shown += " ".join(comment for one in callers for comment in one.comments)
    return {
        "objects": objects, "kills": kills, "sent": sum(one.sent for one in callers),
        "answered_0000": len(taken), "refused": sorted({f"{one:04x}" for one in answers.values() if one}),
        "seconds": round(seconds, 1), "exit_code": code, **_counted(inbox, database, taken),
        "patients_shown": sum(word.lower() in shown.lower() for word in CANARY_WORDS),
    }  # fmt: skip


def _under_fire(inbox: Path, callers: list[_Caller], delays: list[float]) -> tuple[str, int]:
    """Kill and restart the listener as often as there are delays; return all its lines and its exit code."""
    objects, limit = sum(len(one.paths) for one in callers), ("--max-bytes", str(_MOST_BYTES))
    listener = Listener(inbox, *limit, port=callers[0].port)
    try:
        for one in callers:
            one.start()
        for kill, delay in enumerate(delays, 1):
            due = kill * objects // (len(delays) + 1)
            while sum(len(one.answers) for one in callers) < due:
                time.sleep(0.005)
            time.sleep(delay)
            listener.kill()
            listener = Listener(inbox, *limit, port=callers[0].port)
        for one in callers:
            one.join()
        code = listener.stop()
        return listener.log.read_text(), code
    finally:
        listener.process.kill()


def _counted(inbox: Path, database: Path, taken: set[Path]) -> dict[str, Any]:
    """Compare what lies in the inbox and in the database with what was answered."""
    files = {path.name: path.read_bytes() for path in inbox.iterdir()}
    whole = {name for name, data in files.items() if name == hashlib.sha256(data).hexdigest()[:32] + ".dcm"}
    connection = sqlite3.connect(database)
    found = connection.execute(
        "SELECT name, size FROM file JOIN result ON result.file_id = file.id"
    ).fetchall()
    parts = connection.execute("SELECT count(*) FROM file WHERE name LIKE '%.part'").fetchone()[0]
    connection.close()
    rows = [os.fsdecode(name) for name, _ in found]
    answered = {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in taken}
    filed = {str(dcmread(inbox / name, stop_before_pixels=True).SOPInstanceUID) for name in whole}
    return {
        "files": len(files), "files_not_whole": len(files) - len(whole), "rows": len(rows),
        "answered_without_a_row": len(answered - filed) + len(whole - set(rows)),
        "rows_without_an_answer": len(filed - answered) + len(set(rows) - whole),
        "rows_twice": len(rows) - len(set(rows)), "parts_judged": parts,
        "rows_of_another_size": sum(size != len(files.get(os.fsdecode(name), b"")) for name, size in found),
    }  # fmt: skip


def is_right(told: dict[str, Any]) -> bool:
    """Tell whether every answered object has its row, and nothing else has."""
    zero = (
        "files_not_whole", "answered_without_a_row", "rows_without_an_answer", "rows_twice", "parts_judged",
        "rows_of_another_size", "patients_shown", "exit_code",
    )  # fmt: skip
    return not any(told[key] for key in zero) and told["rows"] == told["files"] == told["answered_0000"]


def main() -> int:
    """Run the harness and return 0 if every answered object has its row, and nothing else has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    _config.LOG_HANDLER_LEVEL = "none"
    with tempfile.TemporaryDirectory(prefix="bt-receive-") as name:
        told = received_with_kills(Path(name), options.objects, options.kills, random.Random(options.seed))
    print(json.dumps(told))
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    return int(not is_right(told))


if __name__ == "__main__":
    sys.exit(main())
