"""Loggers: what TensorBoard, MLflow and Weights & Biases hold of a run, killed and resumed or not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.errors import UsageError
from config.extras import installed
from tests.conftest import REPOSITORY
from tests.support.training import Run, Training, draw_heads, train
from trainer.loggers import select
from trainer.loggers.select import loggers
from trainer.model.weights import read_weights
from trainer.training.callbacks import CallbackReporter, RunEnd, RunStart
from trainer.training.config import Epoch, Reporter, TrainingStart

pytestmark = pytest.mark.timeout(600)  # the fixtures' trainings import every logger

SMALL = ("--image-size", "32", "--epochs", "6", "--batch", "8", "--samples", "24", "--arch", "seed-cnn")
LOGGED = [name for name in ("tensorboard", "mlflow", "wandb") if installed(name)]
TAGS = ("loss/train", "loss/validation", "accuracy/train", "accuracy/validation", "auc/validation",
        "learning_rate")  # fmt: skip
EPOCHS = [1, 2, 3, 4, 5, 6]


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_heads(tmp_path_factory.mktemp("data") / "heads", 14)


@pytest.fixture(scope="module")
def whole(heads: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An uninterrupted run with every logger that is installed."""
    folder = tmp_path_factory.mktemp("whole")
    options = ("--data", heads, *SMALL, "--patience", "0", "--deterministic")
    logged = (*options, "--log", ",".join(LOGGED) or "none")
    return Run(logged, folder / "run", train(*logged, "-o", folder / "run", seconds=300))


@pytest.fixture(scope="module")
def killed(whole: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, killed with SIGKILL in the middle of an epoch, and resumed to its end."""
    run = tmp_path_factory.mktemp("killed") / "run"
    training = Training(*whole.options, "-o", run)
    for line in training.errors:
        if line.startswith("epoch 3/"):
            break
    assert training.stop(signal.SIGKILL)[0] == -signal.SIGKILL
    done = train("--resume", "-o", run, seconds=300)
    assert done.returncode == 0, done.stderr
    assert "warning: the logger" not in done.stderr
    return run


def _events(run: Path) -> Any:
    """Read event files with TensorBoard's own reader, which is told to hide nothing."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(
        str(run / "tensorboard"), {"images": 0, "scalars": 0}, purge_orphaned_data=False
    )
    events.Reload()
    return events


@pytest.mark.slow
@pytest.mark.skipif("tensorboard" not in LOGGED, reason="needs the extra tensorboard")
def test_tensorboard_files_hold_curves_pictures_pr_curves_and_options(whole: Run) -> None:
    assert whole.done.returncode == 0, whole.done.stderr
    assert "warning" not in whole.done.stderr
    events = _events(whole.folder)
    tags = events.Tags()
    for tag in TAGS:
        assert [event.step for event in events.Scalars(tag)] == EPOCHS
    assert {tag.partition("/")[0] for tag in tags["images"]} == {"batch", "worst", "confusion", "scores"}
    assert {"pr/no", "pr/yes", "options/text_summary"} <= set(tags["tensors"])
    plugins = events.summary_metadata.values()
    assert "hparams" in {metadata.plugin_data.plugin_name for metadata in plugins}
    assert "validation/roc_auc" in tags["scalars"]


@pytest.mark.slow
def test_a_killed_run_has_the_weights_of_an_uninterrupted_one_with_every_logger_on(
    whole: Run, killed: Path
) -> None:
    one = read_weights(whole.folder / "model.safetensors").tensors
    other = read_weights(killed / "model.safetensors").tensors
    assert one.keys() == other.keys()
    assert all((one[name] == other[name]).all() for name in one)


@pytest.mark.slow
@pytest.mark.skipif("tensorboard" not in LOGGED, reason="needs the extra tensorboard")
def test_tensorboard_of_a_killed_run_has_every_step_once_and_what_an_uninterrupted_one_has(
    whole: Run, killed: Path
) -> None:
    before, after = _events(whole.folder), _events(killed)

    assert {kind: names for kind, names in before.Tags().items() if isinstance(names, list)} == {
        kind: names for kind, names in after.Tags().items() if isinstance(names, list)
    }
    for tag in set(before.Tags()["scalars"]) - {"seconds"}:
        told = [[(event.step, event.value) for event in events.Scalars(tag)] for events in (before, after)]
        assert told[0] == told[1], tag
    for tag in (name for name in before.Tags()["images"] if name.startswith("batch/")):
        pictures = [[image.encoded_image_string for image in one.Images(tag)] for one in (before, after)]
        assert pictures[0] == pictures[1]
    times = [event.wall_time for event in after.Scalars("loss/train")]
    assert times == sorted(times)


def _mlflow_history(run: Path) -> dict[str, list[tuple[int, float]]]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{run.parent / 'mlflow.db'}")
    identity = (run / "mlflow.id").read_text().strip()
    told = client.get_run(identity)
    assert told.info.status == "FINISHED"
    assert told.data.params["arch"] == "seed-cnn"
    assert {one.path for one in client.list_artifacts(identity)} == {
        "curves.png",
        "confusion.png",
        "scores.png",
    }  # fmt: skip - no picture of a patient
    return {
        name: [(metric.step, metric.value) for metric in client.get_metric_history(identity, name)]
        for name in told.data.metrics
        if name != "seconds"
    }


@pytest.mark.slow
@pytest.mark.skipif("mlflow" not in LOGGED, reason="needs the extra mlflow")
@pytest.mark.filterwarnings("ignore")  # its libraries'
def test_mlflow_of_a_killed_run_holds_what_an_uninterrupted_one_holds(whole: Run, killed: Path) -> None:
    before, after = _mlflow_history(whole.folder), _mlflow_history(killed)

    assert before == after
    assert [step for step, _ in before["loss/train"]] == EPOCHS


def _wandb_records(path: Path) -> Iterator[bytes]:
    """Yield the records of a file of Weights & Biases: LevelDB's log format after a head of 7 bytes."""
    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in {1, 4}:  # full, last
            yield whole
            whole = b""


def _wandb_history(run: Path) -> Iterator[Mapping[str, float]]:
    """Yield the rows of the newest offline run, from its file."""
    from wandb.proto import wandb_internal_pb2

    newest = max(run.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)
    for data in _wandb_records(newest):
        record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
        record.ParseFromString(data)
        if record.HasField("history"):
            row = {
                item.key or "/".join(item.nested_key): json.loads(item.value_json)
                for item in record.history.item
            }
            yield {name: value for name, value in row.items() if name in {*TAGS, "_step"}}


@pytest.mark.slow
@pytest.mark.skipif("wandb" not in LOGGED, reason="needs the extra wandb")
@pytest.mark.filterwarnings("ignore")  # its libraries'
def test_wandb_of_a_killed_run_is_whole_under_the_same_id(whole: Run, killed: Path) -> None:
    before, after = list(_wandb_history(whole.folder)), list(_wandb_history(killed))

    assert before == after
    assert [row["_step"] for row in before] == EPOCHS
    names = {path.parent.name.rpartition("-")[2] for path in killed.glob("wandb/offline-run-*/*.wandb")}
    assert names == {(killed / "wandb.id").read_text().strip()}


class _Quiet(Reporter):
    """A reporter that keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    def started(self, start: TrainingStart) -> None: ...

    def stepped(self, epoch: int, step: int, steps: int, loss: float, accuracy: float) -> None: ...

    def finished_epoch(self, epoch: Epoch, *, best: bool) -> None: ...


class _Broken:
    """A logger whose disk is full from the second epoch on."""

    name = "broken"

    def __init__(self) -> None:
        self.told: list[str] = []

    def on_start(self, start: RunStart) -> None:
        self.told.append("start")

    def on_epoch(self, epoch: Epoch, *, best: bool) -> None:
        self.told.append(f"epoch {epoch.epoch}")
        if epoch.epoch == 2:
            raise OSError("no space left on device")

    def on_end(self, end: RunEnd) -> None:
        self.told.append("end")

    def close(self) -> None:
        self.told.append("close")


def test_a_logger_that_fails_is_left_out_with_one_warning(tmp_path: Path) -> None:
    quiet, broken = _Quiet(), _Broken()
    reporter = CallbackReporter(quiet, [broken], tmp_path, {})

    reporter.started(TrainingStart((), 3, 1, 8, lambda count: np.zeros((count, 1, 4, 4), np.uint8)))
    for number in (1, 2, 3):
        reporter.finished_epoch(Epoch(number, 1.0, 0.1, 0.5, 0.5, 0.5, 0.5, 0.5), best=True)
    reporter.close()

    assert broken.told == ["start", "epoch 1", "epoch 2"]
    assert quiet.said == [
        "warning: the logger broken failed and is left out from here on (OSError: no space left on device)"
    ]


# What these run is run as a shell's Python, in a process of its own: Ctrl-C is the whole process's.
_QUIET = """
import random, signal, sys
from pathlib import Path
from trainer.training.callbacks import CallbackReporter
from trainer.training.config import Epoch, Reporter, TrainingStart

class Quiet(Reporter):
    def decoding(self, done, total): ...
    def say(self, message): sys.exit(message)
    def started(self, start): ...
    def stepped(self, *step): ...
    def finished_epoch(self, epoch, *, best): ...

signal.signal(signal.SIGINT, signal.default_int_handler)
"""

# Ctrl-C is pressed in the midst of a callback: so many times after an epoch, once while it is closed.
_INTERRUPTED_CALLBACK = """
class Interrupted:
    name = "interrupted"
    def on_epoch(self, epoch, *, best):
        for _ in range(int(sys.argv[1])):
            signal.raise_signal(signal.SIGINT)
        print("epoch told")
    def close(self):
        signal.raise_signal(signal.SIGINT)
        print("closed")

reporter = CallbackReporter(Quiet(), [Interrupted()], Path(), {})
epoch = Epoch(1, 1.0, 0.1, 0.5, 0.5, 0.5, 0.5, 0.5)
for tell in (lambda: reporter.finished_epoch(epoch, best=True), reporter.close):
    try:
        tell()
    except KeyboardInterrupt:
        print("interrupted")
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""

# Epochs are logged until a timer interrupts, wherever it meets the writer's queue and locks.
_INTERRUPTED_LOGGER = """
import numpy as np
from trainer.loggers.tensorboard_logger import TensorBoardLogger

signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
chance = random.Random(0)
for _ in range(300):
    reporter = CallbackReporter(Quiet(), [TensorBoardLogger()], Path(sys.argv[1]), {})
    reporter.started(TrainingStart((), 3, 1, 8, lambda count: np.zeros((count, 1, 4, 4), np.uint8)))
    number = 0
    try:
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.001, 0.01))
        while True:
            number += 1
            reporter.finished_epoch(Epoch(number, 1.0, 0.1, 0.5, 0.5, 0.5, 0.5, 0.5), best=True)
    except KeyboardInterrupt:
        reporter.close()
print("closed")
"""


def _python(script: str, argument: str | Path) -> list[str]:
    """Run a script and return the lines it has printed."""
    done = subprocess.run(
        [sys.executable, "-c", _QUIET + script, str(argument)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_an_interrupt_waits_until_a_logger_has_written() -> None:
    told = _python(_INTERRUPTED_CALLBACK, "1")

    assert told == ["epoch told", "interrupted", "closed", "interrupted", "True"]


def test_a_second_interrupt_does_not_wait_for_a_logger() -> None:
    told = _python(_INTERRUPTED_CALLBACK, "2")

    assert told == ["interrupted", "closed", "interrupted", "True"]


@pytest.mark.slow
@pytest.mark.skipif("tensorboard" not in LOGGED, reason="needs the extra tensorboard")
def test_tensorboard_closes_whenever_it_is_interrupted(tmp_path: Path) -> None:
    assert _python(_INTERRUPTED_LOGGER, tmp_path) == ["closed"]


@pytest.mark.slow
@pytest.mark.skipif("tensorboard" not in LOGGED, reason="needs the extra tensorboard")
def test_a_training_goes_on_where_tensorboard_cannot_write(heads: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "tensorboard").write_text("a file where its folder is to be")

    done = train("--data", heads, *SMALL, "--epochs", "1", "-o", run, "--log", "tensorboard")

    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning: the logger tensorboard failed") == 1
    assert (run / "model.safetensors").exists()


def test_loggers_are_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "installed", lambda name: name != "mlflow")

    assert [one.name for one in loggers("auto")] == ["tensorboard"]
    assert loggers("none") == []
    assert [one.name for one in loggers("wandb, tensorboard,wandb")] == ["wandb", "tensorboard"]
    with pytest.raises(UsageError, match=r"mlflow is not installed; pip install 'bt-daemon\[mlflow\]'"):
        loggers("mlflow")
    with pytest.raises(UsageError, match="names no logger 'comet'; give auto, none, or of tensorboard"):
        loggers("tensorboard,comet")
    monkeypatch.setattr(select, "installed", lambda name: False)
    assert loggers("auto") == []
