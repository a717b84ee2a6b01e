"""A head-like slice drawn with numpy, and every container it can be put into here."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from trainer.images.decode import Limits, Picture, PictureError, decode
from trainer.model.preprocess import preprocess
from trainer.model.spec import Preprocessing

Grey = npt.NDArray[np.uint8]
HOW = Preprocessing()
LIMITS = Limits()


def head(height: int = 300, width: int = 260) -> Grey:
    """Return a bright skull ring, textured brain, dark ventricles and a lesion, asymmetric in both axes."""
    rows, columns = np.mgrid[0:height, 0:width]
    y, x = (rows - height * 0.52) / (height * 0.43), (columns - width * 0.47) / (width * 0.40)
    radius = np.hypot(x, y)
    brain = 95 + 22 * np.sin(9 * x + 2) * np.cos(7 * y) + 12 * np.sin(17 * x * y)
    picture = np.where(radius < 0.86, brain, 0.0)
    picture = np.where((radius >= 0.9) & (radius < 1.0), 205.0, picture)
    picture = np.where(np.hypot((x - 0.15) / 0.12, (y + 0.1) / 0.3) < 1, 25.0, picture)
    picture = np.where(np.hypot((x + 0.4) / 0.2, (y - 0.3) / 0.16) < 1, 240.0, picture)
    noise = np.random.default_rng(7).normal(0, 1.5, picture.shape)
    grey: Grey = np.clip(picture + noise, 0, 255).astype(np.uint8)
    return grey


def encoded(image: Image.Image, format_name: str, **options: Any) -> bytes:
    """Return the picture as a file's bytes."""
    stream = io.BytesIO()
    image.save(stream, format_name, **options)
    return stream.getvalue()


def read(data: bytes, limits: Limits = LIMITS) -> Picture:
    """Decode as a worker does."""
    return decode(data, limits, HOW.image_size)


def network_input(data: bytes, limits: Limits = LIMITS) -> Grey:
    """Return what the network would see of a file with one slice."""
    (only,) = read(data, limits).slices
    return preprocess(only.image, HOW)


def difference(one: Grey, other: Grey) -> float:
    """Return the mean absolute difference of two network inputs in grey levels."""
    return float(np.abs(one.astype(np.int16) - other.astype(np.int16)).mean())


def picture_or_error(data: bytes, limits: Limits = LIMITS) -> Picture | PictureError:
    """Decode, and return the one exception that may come of it."""
    try:
        return read(data, limits)
    except PictureError as error:
        return error
