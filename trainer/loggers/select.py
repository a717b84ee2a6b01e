"""Choose the loggers of a run by name; one is imported when its run starts."""

from __future__ import annotations

from collections.abc import Callable

from config.errors import UsageError
from config.extras import install_hint, installed
from config.text import printable
from trainer.loggers.mlflow_logger import MLflowLogger
from trainer.loggers.tensorboard_logger import TensorBoardLogger
from trainer.loggers.wandb_logger import WandbLogger
from trainer.training.callbacks import Callback

AUTO, NONE = "auto", "none"
# Name, as its package and its extra -> how it is made.
LOGGERS: dict[str, Callable[[], Callback]] = {
    "tensorboard": TensorBoardLogger,
    "mlflow": MLflowLogger,
    "wandb": WandbLogger,
}


def loggers(wanted: str) -> list[Callback]:
    """Return loggers for names with commas between; "auto" is TensorBoard's where it is installed.

    Raises UsageError for a name that is none, and for one whose package is not installed.
    """
    if wanted == NONE:
        return []
    if wanted == AUTO:
        return [TensorBoardLogger()] if installed("tensorboard") else []
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    for name in names:
        if name not in LOGGERS:
            raise UsageError(
                f"--log {printable(repr(wanted))} names no logger {printable(repr(name))}",
                hint=f"give auto, none, or of {', '.join(LOGGERS)}",
            )
        if not installed(name):
            raise UsageError(f"--log {name}: {name} is not installed", hint=install_hint(name))
    return [LOGGERS[name]() for name in dict.fromkeys(names)]
