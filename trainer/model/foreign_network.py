"""Description of a network that was not trained here: what it takes, and what its numbers mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# The architecture of such a model, and the name of the tensor (bytes,) uint8 that holds its ONNX file.
FOREIGN_ARCHITECTURE = "onnx"
FOREIGN_TENSOR = "foreign.onnx"

# Why there is no heatmap of such a model's images, and what else is missing.
WITHOUT_MAPS = "its network was not trained here, and an ONNX file gives no class-activation maps"
NEVER_REJECTS = "nothing is rejected as unlike the images it was made for"

Fit = Literal["crop", "stretch", "pad"]


@dataclass(frozen=True, slots=True)
class SquareFraming:
    """How a picture of any shape becomes a square one, as programs of others do it."""

    # crop: made so large that its shorter side has `shorter_side` pixels, the middle cut out; stretch:
    # resized to the square; pad: its longer side fills the square, the rest is black.
    fit: Fit = "crop"
    shorter_side: int = 0  # pixels, for crop; 0: the input's size
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"


@dataclass(frozen=True, slots=True)
class ForeignNetwork:
    """What the file itself does not say."""

    gives: Literal["logits", "softmax", "sigmoid"] = (
        "logits"  # one number a class; of two classes perhaps one
    )
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    colours: Literal["RGB", "BGR"] = "RGB"
    input: str = ""  # its name, "" where there is but one
    output: str = ""
    licence: str = ""
