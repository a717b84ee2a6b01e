"""Turn stored DICOM pixels into grey: modality LUT, VOI window, 8 bits, MONOCHROME1 inverted last.

Steps and their order are those of PS3.3 C.7.6.3 and C.11 and PS3.4 N.2. Without a usable window the picture
is stretched between two percentiles (`trainer.images.grayscale`); so is MR, whose numbers have no unit: its
windows are a viewer's taste, differ from slice to slice, and are lost when the series becomes a volume.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from trainer.images.arrays import Array, Grey
from trainer.images.grayscale import to_8_bits, window_of, windowed

if TYPE_CHECKING:
    from pydicom import Dataset


def grey_frame(pixels: Array, dataset: Dataset, number: int) -> Grey:
    """Return frame `number` as grey (rows, columns), of its stored pixels (rows, columns[, 3])."""
    colours = _colours(pixels, dataset)
    if colours is not None:
        return np.array(Image.fromarray(colours).convert("L"))  # luma, ITU-R BT.601
    padding = _padding(pixels, dataset)
    values = rescaled(pixels, dataset, number)
    if dataset.get("Modality") == "MR":
        shown = to_8_bits(values, padding)
    else:
        shown = _shown(values, functional_group(dataset, number, "FrameVOILUTSequence"), padding)
    if _photometric(dataset) == "MONOCHROME1":
        shown = 255 - shown
    if padding is not None:
        shown[padding] = 0
    return shown


def frame_tones(pixels: Array, dataset: Dataset, number: int) -> tuple[Array, float, float]:
    """Return the numbers of a frame (rows, columns), and which of them `grey_frame` makes black and white.

    Padding has the number that is shown black. A table or sigmoid has no such two: percentiles stand for it.
    """
    if _photometric(dataset) == "PALETTE COLOR" or pixels.ndim == 3:
        return grey_frame(pixels, dataset, number), 0.0, 255.0
    padding = _padding(pixels, dataset)
    values = rescaled(pixels, dataset, number)
    low, high = window_of(values, padding)
    if dataset.get("Modality") != "MR":
        where = functional_group(dataset, number, "FrameVOILUTSequence")
        window = None if where.get("VOILUTSequence") else _window(where)
        if window is not None and window[2] != "SIGMOID":
            ends = _ends(*window)
            low, high = ends if ends[0] < values.max() and ends[1] > values.min() else (low, high)
    if padding is not None:
        values = np.where(padding, high if is_inverted(dataset) else low, values)
    return values, low, high


def is_inverted(dataset: Dataset) -> bool:
    """Whether low numbers are bright."""
    return _photometric(dataset) == "MONOCHROME1"


def rgb_frame(pixels: Array, dataset: Dataset, number: int) -> Grey:
    """Return frame `number` as RGB (rows, columns, 3); what is grey is so in all three."""
    colours = _colours(pixels, dataset)
    if colours is not None:
        return colours
    return np.repeat(grey_frame(pixels, dataset, number)[:, :, None], 3, axis=2)


def _colours(pixels: Array, dataset: Dataset) -> Grey | None:
    """Return RGB of 8 bits (rows, columns, 3) of pixels that are colours, None if they are not.

    YBR has become RGB in pydicom's decoder by now.
    """
    if _photometric(dataset) == "PALETTE COLOR":
        from pydicom.pixels.processing import apply_color_lut

        pixels = apply_color_lut(pixels, dataset)
        bits = 8 * pixels.dtype.itemsize
    elif pixels.ndim == 3:
        bits = int(dataset.BitsStored)
    else:
        return None
    if bits != 8:
        pixels = windowed(pixels, 0, (1 << bits) - 1)
    return np.ascontiguousarray(pixels, dtype=np.uint8)


def _photometric(dataset: Dataset) -> str:
    return str(dataset.get("PhotometricInterpretation", ""))


def rescaled(pixels: Array, dataset: Dataset, number: int) -> Array:
    """Apply the modality LUT, or slope and intercept (PS3.3 C.11.1)."""
    from pydicom.pixels.processing import apply_modality_lut

    where = functional_group(dataset, number, "PixelValueTransformationSequence")
    values: Array = apply_modality_lut(pixels, where)
    return values


def _shown(values: Array, where: Dataset, padding: Array | None) -> Grey:
    """Apply the VOI LUT or the first window (PS3.3 C.11.2), percentiles where neither is to be used."""
    if where.get("VOILUTSequence"):
        from pydicom.pixels.processing import apply_voi

        table = where.VOILUTSequence[0]
        bits = int(table.LUTDescriptor[2])
        shown = windowed(apply_voi(np.rint(values).astype(np.int64), where), 0, (1 << bits) - 1)
    else:
        window = _window(where)
        shown = to_8_bits(values, padding) if window is None else _through(values, *window)
    if shown.min() == shown.max() and values.min() < values.max():
        return to_8_bits(values, padding)  # a window that misses the picture
    return shown


def _window(where: Dataset) -> tuple[float, float, str] | None:
    try:
        centre, width = (float(_first(where.get(name))) for name in ("WindowCenter", "WindowWidth"))
    except (TypeError, ValueError):
        return None
    function = str(where.get("VOILUTFunction") or "LINEAR")
    if (
        not np.isfinite(centre)
        or not np.isfinite(width)
        or width < 1e-9
        or (function == "LINEAR" and width < 1)
    ):
        return None
    return centre, width, function


def _through(values: Array, centre: float, width: float, function: str) -> Grey:
    if function == "SIGMOID":  # PS3.3 C.11.2.1.3.1
        exponent = np.clip(-4.0 * (values - centre) / width, -50.0, 50.0)
        return windowed(1.0 / (1.0 + np.exp(exponent)), 0, 1)
    return windowed(values, *_ends(centre, width, function))


def _ends(centre: float, width: float, function: str) -> tuple[float, float]:
    """Return what a linear window makes black and white."""
    if function == "LINEAR_EXACT":  # PS3.3 C.11.2.1.3.2
        return centre - width / 2, centre + width / 2
    low = centre - 0.5 - (width - 1) / 2  # PS3.3 C.11.2.1.2.1
    return low, low + max(width - 1, 1e-3)


def _padding(pixels: Array, dataset: Dataset) -> Array | None:
    """Return where the frame holds padding (PS3.3 C.7.5.1.1.2), None if it cannot."""
    value = _stored_number(dataset, "PixelPaddingValue")
    if value is None:
        return None
    limit = _stored_number(dataset, "PixelPaddingRangeLimit")
    low, high = min(value, value if limit is None else limit), max(value, value if limit is None else limit)
    padding: Array = (pixels >= low) & (pixels <= high)
    return None if padding.all() else padding


def _stored_number(dataset: Dataset, keyword: str) -> int | None:
    value = _first(dataset.get(keyword))
    if isinstance(value, bytes):  # implicit VR leaves open whether it is signed
        value = int.from_bytes(value, "little", signed=bool(dataset.get("PixelRepresentation")))
    return int(value) if isinstance(value, int) else None


def functional_group(dataset: Dataset, number: int, group: str) -> Dataset:
    """Return the data set that holds a functional group of one frame (PS3.3 C.7.6.16), else the object."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    shared = dataset.get("SharedFunctionalGroupsSequence") or ()
    for item in (*per_frame[number : number + 1], *shared[:1]):
        found = item.get(group)
        if found:
            return found[0]  # type: ignore[no-any-return]
    return dataset


def _first(value: Any) -> Any:
    """Return the first of several values, or the value."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        return value
    return value[0] if len(value) else None
