"""The worst errors as a picture: what the network was surest of and wrong about, and where it looked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from config.text import printable
from trainer.images.arrays import Doubles, Floats, Grey, Ints
from trainer.networks.classifier import Classifier

_COLUMNS, _ROWS = 6, 4


def draw_worst(
    network: Classifier,
    pictures: Grey,
    truth: Ints,
    shares: Doubles,
    said: Ints,
    names: Sequence[str],
    classes: Sequence[str],
    path: Path,
) -> None:
    """Draw the up to 24 errors with the highest probability of the wrong class.

    `pictures` (n, S, S), true and given classes (n,), probabilities `shares` (n, classes). Over each
    stands what it is, what was said and how surely; in warm colours the class-activation map of what
    was said (Zhou et al. 2016).
    """
    wrong = np.flatnonzero(said != truth)
    worst = wrong[np.argsort(-shares[wrong, said[wrong]], kind="stable")][: _COLUMNS * _ROWS]
    rows = max(1, -(-len(worst) // _COLUMNS))
    figure = Figure(figsize=(2.1 * _COLUMNS, 2.5 * rows + 0.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for one in axes:
        one.set_axis_off()
    title = f"{len(wrong)} of {len(truth)} wrong" + (f"; the {len(worst)} surest" if len(worst) else "")
    figure.suptitle(f"{title}. The maps explain the network, not the image.", fontsize=9)
    for place, axis, activation in zip(
        worst, axes, _maps(network, pictures[worst], said[worst]), strict=False
    ):
        axis.imshow(pictures[place], cmap="gray", vmin=0, vmax=255)
        side = pictures.shape[1]
        axis.imshow(
            activation, cmap="autumn", alpha=0.45 * activation, extent=(0, side, side, 0),
            interpolation="bilinear", vmin=0, vmax=1,
        )  # fmt: skip
        axis.set_title(
            f"is {classes[truth[place]]}, said {classes[said[place]]} {shares[place, said[place]]:.2f}\n"
            f"{printable(names[place])[-30:]}",
            fontsize=7,
        )
    figure.savefig(path)


@torch.no_grad()
def _maps(network: Classifier, pictures: Grey, said: Ints) -> list[Floats]:
    """Return the map (h, w) of the given class of each picture, 0..1."""
    if not len(pictures):
        return []
    device = next(network.parameters()).device
    network.eval()
    maps = network(torch.from_numpy(np.array(pictures))[:, None].to(device))[2].float().cpu().numpy()
    chosen = np.maximum(maps[np.arange(len(said)), said], 0)
    return [one / max(1e-6, float(one.max())) for one in chosen]
