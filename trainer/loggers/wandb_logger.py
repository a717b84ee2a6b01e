"""Weights & Biases: a run's options, curves and figures; offline unless WANDB_MODE says otherwise."""

from __future__ import annotations

import os
import secrets
from typing import Any

from config.files import atomic_write
from trainer.loggers.epoch_scalars import epoch_scalars
from trainer.training.callbacks import RunEnd, RunStart
from trainer.training.config import Epoch

PROJECT = "bt-train"
ID_FILE = "wandb.id"
# Charts only: what is synchronised leaves this machine, and pictures of patients do not.
_CHARTS = ("curves", "confusion", "scores")


class WandbLogger:
    """Logs into RUN/wandb/, which `wandb sync` uploads; WANDB_MODE=online does so at once.

    Offline a resumed run is written whole again under the same id: the newest folder is complete.
    """

    name = "wandb"

    def __init__(self) -> None:
        self._run: Any = None

    def on_start(self, start: RunStart) -> None:
        """Begin a run, or go on with that of this folder and add the epochs that it lacks."""
        import wandb

        path, identity = start.folder / ID_FILE, secrets.token_hex(4)
        if start.history and path.exists():
            identity = path.read_text().strip()
        with atomic_write(path, mode=0o644) as stream:
            stream.write(f"{identity}\n".encode())
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=start.folder.name,
            id=identity,
            resume="allow",
            dir=str(start.folder),
            mode=os.environ.get("WANDB_MODE", "offline"),  # type: ignore[arg-type]
            config=dict(start.options),
            settings=wandb.Settings(silent=True, disable_git=True, x_disable_stats=True),
        )
        for epoch in start.history:
            self.on_epoch(epoch, best=False)

    def on_epoch(self, epoch: Epoch, *, best: bool) -> None:
        """Log an epoch's scalars."""
        del best
        if epoch.epoch >= self._run.step:  # online, what is there already is not sent again
            self._run.log(epoch_scalars(epoch), step=epoch.epoch)

    def on_end(self, end: RunEnd) -> None:
        """Log the figures of the validation images and the charts, and end the run."""
        import wandb

        self._run.summary.update({f"validation/{name}": value for name, value in end.figures().items()})
        for name in _CHARTS:
            if (path := end.folder / f"{name}.png").exists():
                self._run.summary[name] = wandb.Image(str(path))
        self._run.finish(exit_code=0)
        self._run = None

    def close(self) -> None:
        """End the run, as one that failed if it did not come to its end."""
        if self._run is not None:
            self._run.finish(exit_code=1)
