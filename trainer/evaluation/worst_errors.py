"""The worst errors as a picture: what the network was surest of and wrong about, and where it looked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from config.text import printable
from trainer.images.arrays import Doubles, Floats, Grey, Ints, planes
from trainer.images.warm_map import overlay
from trainer.networks.classifier import Classifier

_COLUMNS, _ROWS = 6, 4


@dataclass(frozen=True, slots=True)
class JudgedImages:
    """Images with what they are and what a network gave them."""

    images: Grey  # (n, S, S[, 3])
    names: Sequence[str]  # (n,)
    truth: Ints  # (n,), indices of the true classes
    given: Ints  # (n,), indices of the classes given
    probabilities: Doubles  # (n, classes)


def draw_worst(network: Classifier, judged: JudgedImages, classes: Sequence[str], path: Path) -> None:
    """Draw the up to 24 errors with the highest probability of the wrong class.

    Over each image stands what it is, what was given and how surely; in warm colours the class-activation
    map of the class given (Zhou et al. 2016).
    """
    given, likely = judged.given, judged.probabilities
    wrong = np.flatnonzero(given != judged.truth)
    worst = wrong[np.argsort(-likely[wrong, given[wrong]], kind="stable")][: _COLUMNS * _ROWS]
    rows = max(1, -(-len(worst) // _COLUMNS))
    figure = Figure(figsize=(2.1 * _COLUMNS, 2.5 * rows + 0.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    title = f"{len(wrong)} of {len(given)} wrong" + (f"; the {len(worst)} surest" if len(worst) else "")
    figure.suptitle(f"{title}. The maps explain the network, not the image.", fontsize=9)
    maps = _maps(network, judged.images[worst], given[worst])
    for index, axis, activation in zip(worst, axes, maps, strict=False):
        _draw_image(axis, judged.images[index], activation)
        axis.set_title(
            f"is {classes[judged.truth[index]]}, said {classes[given[index]]} "
            f"{likely[index, given[index]]:.2f}\n{printable(judged.names[index])[-30:]}",
            fontsize=7,
        )
    figure.savefig(path)


def _draw_image(axis: Axes, image: Grey, activation: Floats) -> None:
    """Draw an image (S, S[, 3]) with its activation map (h, w) over it, as the daemon's page does."""
    axis.imshow(np.asarray(overlay(image, activation, len(image))))


@torch.no_grad()
def _maps(network: Classifier, images: Grey, given: Ints) -> list[Floats]:
    """Return the map (h, w) of the given class of each image."""
    if not len(images):
        return []
    device = next(network.parameters()).device
    network.eval()
    maps = network(torch.from_numpy(planes(np.array(images))).to(device))[2].float().cpu().numpy()
    return list(maps[np.arange(len(given)), given])
