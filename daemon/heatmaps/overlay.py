"""Overlay a class-activation map on the picture that the network was given.

The map explains the network; it does not outline a tumour (Zhou et al. 2016, "Learning Deep
Features for Discriminative Localization"). Of a network with a lesion map it says where that sees one.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from config.text import DISCLAIMER
from daemon.output.cells import confidence_text
from daemon.output.words import compared_with, score_limits
from trainer.images.arrays import Floats, Grey
from trainer.images.warm_map import overlay
from trainer.model.layers import localisation
from trainer.model.prediction import Prediction
from trainer.model.spec import ModelSpec

_CAPTION_LINES = 4
_LINE_HEIGHT = 13  # pixels, of Pillow's built-in font
_SIDE = 512


def heatmap(
    picture: Grey,
    activation: Floats,
    prediction: Prediction,
    spec: ModelSpec,
    weights_sha256: str,
) -> Image.Image:
    """Return a captioned RGB image: the network's input with what spoke for the class in warm colours.

    `picture` is the network's input (S, S[, 3]), `activation` the class's map (h, w). Only what spoke for
    the class is shown; the colours are relative to the largest value of this image.
    """
    return _captioned(overlay(picture, activation, _SIDE), caption(prediction, spec, weights_sha256))


def class_shown(prediction: Prediction, spec: ModelSpec) -> int:
    """Return whose map is shown: the positive class's (it is what is looked for), else the likeliest's."""
    if spec.decision.positive is not None:
        return spec.classes.index(spec.decision.positive)
    return int(np.argmax(prediction.probabilities))


def caption(prediction: Prediction, spec: ModelSpec, weights_sha256: str) -> list[str]:
    """Return what must stand with a heatmap: what was said, by which model, and what the map is not."""
    shown = spec.classes[class_shown(prediction, spec)]
    label = prediction.label
    if label is None:
        said = "rejected: unlike the model's images"
    else:
        said = f"{label} ({spec.meanings.get(label, label)}), {prediction.verdict}"
    compared = compared_with(score_limits(spec))
    return [
        f"{said}; score {confidence_text(prediction.score(spec))}" + (f": {compared}" if compared else ""),
        f"map for class {shown}: {_meaning(spec)}",
        f"model {spec.name} {spec.version} {weights_sha256[:8]}",
        DISCLAIMER,
    ]


def _meaning(spec: ModelSpec) -> str:
    if localisation(spec.architecture) is None:
        return "explains the network, does not localise"
    return "where the network sees it, not an outline"


def _captioned(picture: Image.Image, lines: list[str]) -> Image.Image:
    out = Image.new("RGB", (picture.width, picture.height + _LINE_HEIGHT * _CAPTION_LINES + 8))
    out.paste(picture, (0, 0))
    pen = ImageDraw.Draw(out)
    for number, line in enumerate(lines):
        # The built-in font knows Latin letters only; others show as question marks instead of failing.
        text = line.encode("latin-1", "replace").decode("latin-1")
        pen.text((6, picture.height + 4 + number * _LINE_HEIGHT), text, fill=(230, 230, 230))
    return out
