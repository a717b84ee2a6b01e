"""The pictures of `bt-train eval`: curves of all models, and each one's confusion and worst errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import confusion_matrix

from trainer.evaluation.outputs.judged_set import JudgedSet
from trainer.evaluation.outputs.model_curves import draw_models
from trainer.evaluation.plots import draw_confusion
from trainer.evaluation.worst_errors import JudgedImages, draw_worst


def draw_evaluation(judged: Sequence[JudgedSet], folder: Path) -> list[Path]:
    """Draw into a folder, which is made, and return what was drawn; raise OSError where that cannot be."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [folder / "curves.png"]
    draw_models(judged, drawn[0])
    for one in judged:
        mark = f"-{one.weights.sha256[:8]}" if len(judged) > 1 else ""
        confusion, worst = folder / f"confusion{mark}.png", folder / f"worst{mark}.png"
        table = confusion_matrix(one.labels, one.given, labels=np.arange(len(one.classes)))
        draw_confusion(table.tolist(), one.classes, confusion)
        images = JudgedImages(
            one.dataset.pictures,
            [file.name for file in one.dataset.files],
            one.labels,
            one.given,
            one.probabilities,
        )
        draw_worst(one.network, images, one.classes, worst)
        drawn += [confusion, worst]
    return drawn
