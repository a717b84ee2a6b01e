"""Let the daemon judge a folder of broken, odd and hostile files, and say what it cost.

    python -m tests.harness.corpus [FOLDER] [--canaries] [--json FILE]

Without a folder: the corpus beside the checkout. With --canaries the folder's DICOM objects (without a
folder: those that come with pydicom) get made-up patient names first, which are then looked for in the
database, the log and the report. Counts rows per status, what Pillow can decode of the accepted
formats and the daemon did not, the slowest file, and the largest memory of the daemon and its workers.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pydicom
from pydicom.dataset import Dataset

from storage.schema import ERROR_CODE
from tests.conftest import REPOSITORY, SHARED
from tests.support.daemons import bt_daemon
from tests.support.daemons import rows as daemon_rows

_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP")
_CANARY = "Zanzibarra^Quillfeather"
_PEOPLE = ("PatientName", "PatientID", "ReferringPhysicianName", "InstitutionName", "PatientAddress")
# In a process of its own: a decoder may do what it likes to it.
_PILLOW = f"""
import sys, warnings
from PIL import Image
warnings.simplefilter("error", Image.DecompressionBombWarning)
with Image.open(sys.argv[1], formats={_FORMATS!r}) as image:
    image.load()
"""


def main() -> int:
    """Run, print the figures, and return 0 if every regular file has exactly one row and nothing leaked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--canaries", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    bundled = Path(pydicom.__file__).parent / "data"
    source = options.folder or (bundled if options.canaries else SHARED / "corpus" / "images")
    with tempfile.TemporaryDirectory(prefix="bt-corpus-") as name:
        folder = Path(name)
        inbox = folder / "inbox"
        shutil.copytree(source, inbox, symlinks=True)
        planted = sum(_plant(path) for path in _files(inbox)) if options.canaries else 0
        told = {"planted": planted, **_judged(folder, inbox), **_leaks(folder)}
        if not options.canaries:
            told |= _beside_pillow(folder, inbox)
    print(json.dumps(told, indent=1))
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    return int(told["rows"] != told["files"] or told["exit_code"] != 0 or bool(told["leaks"]))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _plant(path: Path) -> bool:
    """Name a made-up patient in a DICOM object; return whether it could be written again."""
    try:
        dataset: Dataset = pydicom.dcmread(path, force=False)
        for keyword in _PEOPLE:
            setattr(dataset, keyword, _CANARY)
        dataset.save_as(path, enforce_file_format=False)
    except Exception:  # pydicom raises whatever a broken object makes it; it stays as it is
        return False
    return True


def _judged(folder: Path, inbox: Path) -> dict[str, Any]:
    log = folder / "daemon.log"
    began = time.monotonic()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "daemon.cli", "watch", inbox, "--once", "--settle", "0s",
             "--db", folder / "results.db"],
            cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
        )  # fmt: skip
        peak = 0
        while process.poll() is None:
            peak = max(peak, _memory(process.pid))
            time.sleep(0.05)
    connection = sqlite3.connect(folder / "results.db")
    rows = daemon_rows(folder / "results.db")
    slowest = connection.execute("SELECT max(duration_us) FROM result").fetchone()[0]
    connection.close()
    return {
        "files": len(_files(inbox)), "rows": len(rows), "exit_code": process.returncode,
        "seconds": round(time.monotonic() - began, 1), "slowest_seconds": round(slowest / 1e6, 2),
        "peak_megabytes": round(peak / 1e6), "log_lines": len(log.read_text().splitlines()),
        "statuses": Counter(row["status"] for row in rows),
        "reasons": Counter(row["reason"] for row in rows if row["status"] == "error").most_common(12),
    }  # fmt: skip


def _memory(pid: int) -> int:
    """Return the resident bytes of a process and its children together."""
    try:
        process = psutil.Process(pid)
        return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))
    except psutil.Error:
        return 0


def _leaks(folder: Path) -> dict[str, Any]:
    """Return which outputs name the made-up patient."""
    report = folder / "report.html"
    bt_daemon("report", "--since", "1d", "-o", report, "--db", folder / "results.db", timeout=600)
    outputs = [report, folder / "daemon.log", *folder.glob("results.db*")]
    words = [word.encode().lower() for word in _CANARY.split("^")]
    texts = {path.name: path.read_bytes().lower() for path in outputs}
    return {"leaks": [name for name, text in texts.items() if any(word in text for word in words)]}


def _beside_pillow(folder: Path, inbox: Path) -> dict[str, Any]:
    """Return which files one of the two could decode and the other could not."""
    connection = sqlite3.connect(folder / "results.db")
    rows = connection.execute(
        "SELECT folder.path, file.name, result.status, reason.text FROM result JOIN file ON file.id = file_id"
        " JOIN folder ON folder.id = folder_id LEFT JOIN reason ON reason.id = reason_id"
    ).fetchall()
    connection.close()
    root = os.fsencode(inbox)
    reasons = {os.path.join(root, place, name): why for place, name, _, why in rows}
    ours = {os.path.join(root, place, name) for place, name, code, _ in rows if code != ERROR_CODE}
    theirs = {os.fsencode(path) for path in _files(inbox) if _pillow_decodes(path)}
    return {
        "pillow_decodes": len(theirs),
        "only_pillow": sorted(f"{_name(path)}: {reasons.get(path, 'no row')}" for path in theirs - ours),
        "only_daemon": sorted(_name(path) for path in ours - theirs),
    }


def _name(path: bytes) -> str:
    return os.fsdecode(os.path.basename(path))


def _pillow_decodes(path: Path) -> bool:
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PILLOW, path], capture_output=True, timeout=20, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
