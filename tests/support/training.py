"""Folders of drawn heads to train on, and `bt-train` as a process."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

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
    """Run `bt-train` to its end, in a process of its own that finds torch imported already."""
    words = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as folder:
        output, errors = Path(folder, "stdout"), Path(folder, "stderr")
        process = _FORKS.Process(target=_train, args=(words, dict(os.environ), output, errors))
        process.start()
        process.join(120)
        if process.is_alive():
            process.kill()
            raise TimeoutError(f"bt-train {' '.join(words)} took longer than 120 s")
        return subprocess.CompletedProcess(
            words, process.exitcode or 0, output.read_text(), errors.read_text()
        )


def _train(words: list[str], environment: dict[str, str], output: Path, errors: Path) -> None:
    """Do what the command `bt-train` does, with its output in files."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(REPOSITORY)
    for descriptor, path in ((1, output), (2, errors)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdout, sys.stderr = (
        open(descriptor, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
        for descriptor in (1, 2)
    )
    sys.argv = ["bt-train", *words]
    torch.set_num_threads(1)
    from trainer.cli import main

    main()


# Importing torch takes longer than most of these trainings.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "torch._dynamo",  # which the first optimiser imports
        "trainer.cli",
        "trainer.training.run",
        "trainer.training.cross_validation",
        "trainer.evaluation.plots",
    ]
)
