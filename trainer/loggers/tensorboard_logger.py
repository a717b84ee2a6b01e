"""TensorBoard: event files with curves, augmented pictures, worst errors, PR curves and options."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.loggers.epoch_scalars import epoch_scalars
from trainer.training.callbacks import RunEnd, RunStart
from trainer.training.config import Epoch

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"
_PICTURES = 16  # of a batch
_DRAWN = ("worst", "confusion", "scores")  # pictures of the run's folder


class TensorBoardLogger:
    """Writes RUN/tensorboard/, anew at each start.

    Whatever the kill, what the checkpoint's history holds is written again and nothing twice: the files of
    before are removed.
    """

    name = "tensorboard"

    def __init__(self) -> None:
        self._writer: SummaryWriter | None = None
        self._options: Mapping[str, Any] = {}
        self._last = 0  # the epoch that was written last

    def on_start(self, start: RunStart) -> None:
        """Write what is known of a run so far, with the times that its epochs took."""
        from torch.utils.tensorboard import SummaryWriter

        folder = start.folder / FOLDER
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = writer = SummaryWriter(str(folder))
        self._options = start.options
        writer.add_images("batch/augmented", start.sample(_PICTURES), 0)
        rows = "\n".join(f"| {name} | {value} |" for name, value in start.options.items())
        writer.add_text("options", f"| option | value |\n|---|---|\n{rows}", 0)
        ended = time.time() - sum(epoch.seconds for epoch in start.history)
        for epoch in start.history:
            ended += epoch.seconds
            self._write(epoch, ended)
        writer.flush()

    def on_epoch(self, epoch: Epoch, *, best: bool) -> None:
        """Write an epoch's scalars."""
        del best
        self._write(epoch, time.time())
        self._open.flush()

    def on_end(self, end: RunEnd) -> None:
        """Write PR curves, the run's pictures, and its options beside what they reached."""
        writer, step = self._open, self._last
        for index, name in enumerate(end.classes):
            writer.add_pr_curve(f"pr/{name}", end.truth == index, end.probabilities[:, index], step)
        for name in _DRAWN:
            if (path := end.folder / f"{name}.png").exists():
                writer.add_image(name, _pixels(path), step, dataformats="HWC")
        self._write_options(end)

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()

    @property
    def _open(self) -> SummaryWriter:
        assert self._writer is not None
        return self._writer

    def _write(self, epoch: Epoch, at: float) -> None:
        for name, value in epoch_scalars(epoch).items():
            self._open.add_scalar(name, value, epoch.epoch, walltime=at)
        self._last = epoch.epoch

    def _write_options(self, end: RunEnd) -> None:
        """Write hparams into this file; `SummaryWriter.add_hparams` would make a run of its own."""
        from torch.utils.tensorboard.summary import hparams

        plain = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in self._options.items()
        }
        figures = {f"validation/{name}": value for name, value in end.figures().items()}
        writer = self._open._get_file_writer()  # type: ignore[no-untyped-call]
        for summary in hparams(plain, figures):  # type: ignore[no-untyped-call]
            writer.add_summary(summary)
        for name, value in figures.items():
            self._open.add_scalar(name, value, self._last)


def _pixels(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a picture's pixels (height, width, 3)."""
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.uint8)
