"""Scalars of an epoch under the names that all loggers give them."""

from __future__ import annotations

import math

from trainer.training.config import Epoch


def epoch_scalars(epoch: Epoch) -> dict[str, float]:
    """Return name -> value; what does not exist (the AUC of more than two classes) is not there."""
    values = {
        "loss/train": epoch.train_loss,
        "loss/validation": epoch.val_loss,
        "accuracy/train": epoch.train_accuracy,
        "accuracy/validation": epoch.val_accuracy,
        "auc/validation": epoch.val_auc,
        "learning_rate": epoch.learning_rate,
        "seconds": epoch.seconds,
    }
    return {name: value for name, value in values.items() if math.isfinite(value)}
