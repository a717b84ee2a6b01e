"""Folders of drawn heads to train on, and `bt-train` as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY
from trainer.images.phantom import phantom


def draw_heads(root: Path, count: int, classes: tuple[str, str] = ("no", "yes"), *, first: int = 0) -> Path:
    """Fill `root` with class folders of `count` drawn heads each; the second class has a lesion."""
    for place, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(first, first + count):
            head = phantom(number + 1000 * place, lesion=place == 1, label=False)
            # Turned, or the drawings are taken for near-duplicates of each other.
            head.rotate(number * 25 + place * 11).save(root / name / f"{name} {number}.png")
    return root


def start_training(*arguments: str | Path) -> subprocess.Popen[str]:
    """Start `bt-train` in a process of its own, one thread."""
    return subprocess.Popen(
        [sys.executable, "-m", "trainer.cli", *map(str, arguments)],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def train(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `bt-train` to its end."""
    process = start_training(*arguments)
    try:
        output, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)
