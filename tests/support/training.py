"""Folders of drawn heads to train on, and `bt-train` as a process."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from config.extras import installed
from tests.conftest import REPOSITORY
from trainer.images.phantom import phantom

# Most of a small training's time would go into drawing 900 pictures of other kinds, twice: for the distance
# limit to be fitted against, and to be judged on. So many are enough where a test asks nothing of the limit.
FEW_OTHERS = 90


def draw_heads(root: Path, count: int, classes: tuple[str, str] = ("no", "yes"), *, first: int = 0) -> Path:
    """Fill `root` with class folders of `count` drawn heads each; the second class has a lesion."""
    for place, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(first, first + count):
            head = phantom(number + 1000 * place, lesion=place == 1, label=False)
            # Turned, or the drawings are taken for near-duplicates of each other.
            head.rotate(number * 25 + place * 11).save(root / name / f"{name} {number}.png")
    return root


def train(
    *arguments: str | Path, others: int = FEW_OTHERS, seconds: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run `bt-train` to its end, in a process of its own that finds torch imported already.

    A training draws `others` pictures of other kinds. Raises TimeoutError after so many seconds.
    """
    words = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as folder:
        output, errors = Path(folder, "stdout"), Path(folder, "stderr")
        process = _FORKS.Process(target=_train, args=(words, _environment(), output, errors, others))
        process.start()
        process.join(seconds)
        if process.is_alive():
            process.kill()
            raise TimeoutError(f"bt-train {' '.join(words)} took longer than {seconds:.0f} s")
        return subprocess.CompletedProcess(
            words, process.exitcode or 0, output.read_text(), errors.read_text()
        )


@dataclass(frozen=True)
class Run:
    """A training that has ended: its options but for -o, its folder, and what it said."""

    options: tuple[str | Path, ...]
    folder: Path
    done: subprocess.CompletedProcess[str]


def trained(folder: Path, *options: str | Path, others: int = FEW_OTHERS) -> Run:
    """Train into a folder, for tests that share the run and only read it."""
    return Run(options, folder, train(*options, "-o", folder, others=others))


class Training:
    """`bt-train` under way, in a process as that of `train`; `errors` are the lines of its stderr."""

    def __init__(self, *arguments: str | Path) -> None:
        words = [str(argument) for argument in arguments]
        reader, writer = _FORKS.Pipe(duplex=False)
        with reader, writer:
            self._process = _FORKS.Process(
                target=_train, args=(words, _environment(), Path(os.devnull), writer, FEW_OTHERS)
            )
            self._process.start()
            self.errors = os.fdopen(os.dup(reader.fileno()), encoding="utf-8")

    def stop(self, number: int) -> tuple[int, str]:
        """Send a signal; return the exit code, as `subprocess` has it, and the rest of stderr."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)
        self._process.join(60)
        if self._process.exitcode is None:
            self._process.kill()
            raise TimeoutError(f"bt-train did not end within 60 s of signal {number}")
        with self.errors:
            return self._process.exitcode, self.errors.read()


def _train(
    words: list[str], environment: dict[str, str], output: Path, errors: Path | Connection, others: int
) -> None:
    """Do what the command `bt-train` does, with its output in files; see `train` for `others`."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(REPOSITORY)
    for descriptor, place in ((1, output), (2, errors)):
        opened = (
            os.open(place, os.O_WRONLY | os.O_CREAT, 0o600) if isinstance(place, Path) else place.fileno()
        )
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdout, sys.stderr = (
        open(descriptor, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
        for descriptor in (1, 2)
    )
    sys.argv = ["bt-train", *words]
    torch.set_num_threads(1)
    from trainer.cli import main
    from trainer.evaluation import ood
    from trainer.training import prepare, run

    ood.OTHERS = run.OTHERS = others  # type: ignore[attr-defined]
    prepare.HEADS = prepare.TOMOGRAMS = min(others, prepare.HEADS)
    main()


def _environment() -> dict[str, str]:
    """Return the environment without settings of bt-daemon, and with user folders of all trainings.

    What one has decoded the next finds in the cache; and a fixture that trains for a whole file does so
    before a test's own user folders are there.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BT_")}
    home = _home()
    folders = {f"XDG_{name}_HOME": str(home / name.lower()) for name in ("DATA", "CONFIG", "CACHE", "STATE")}
    return kept | folders | {"HOME": str(home), "MPLCONFIGDIR": str(home / "matplotlib")}


@cache
def _home() -> Path:
    home = Path(tempfile.mkdtemp(prefix="bt-train-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    return home


# Importing torch takes longer than most of these trainings.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        # The logger that is on wherever it is installed.
        *(["torch.utils.tensorboard"] if installed("tensorboard") else []),
        "torch._dynamo",  # which the first optimiser imports
        "trainer.cli",
        "trainer.training.run",
        "trainer.training.cross_validation",
        "trainer.evaluation.plots",
    ]
)
