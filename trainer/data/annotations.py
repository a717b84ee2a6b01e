"""Annotations: masks and boxes of lesions, as maps that move and train with the network's inputs.

A folder for `--annotations` holds masks, `SOURCE/NAME.png` with the pixels of the picture (anything but black
is lesion), and boxes, any `*.csv` with the columns file, left, upper, right, lower in shares of the picture.
NAME is a picture's name without its ending, or without its last part after an underscore either, so that the
sequences of one slice share a mask.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from config.errors import UsageError
from config.text import printable
from trainer.data.dataset import Dataset, ImageFile, Progress
from trainer.images.arrays import Bools, Grey
from trainer.images.decode import Limits, PictureError, decode, read_file
from trainer.model.preprocess import preprocess_mask
from trainer.model.spec import Preprocessing

# A map has a quarter of the input's side: finer than any network localises, and cheap to move.
MAP_REDUCTION = 4
_COLUMNS = ("left", "upper", "right", "lower")
_CHUNK = 64
_WHOLE = 1 << 20  # no picture is as large as would be reduced for such an input

Box = tuple[float, float, float, float]  # left, upper, right, lower, shares of the picture
Marked = tuple[ImageFile, Path | None, tuple[Box, ...]]  # with its mask, or its boxes


@dataclass(frozen=True, slots=True)
class Annotations:
    """Where lesions are in the pictures of a dataset."""

    maps: Grey  # (n, S / 4, S / 4), the share of each cell that lesion covers, 255 for all of it
    known: Bools  # (n,), whether the map is known; one without lesion is all zero


def load_annotations(
    folder: Path,
    dataset: Dataset,
    preprocessing: Preprocessing,
    positive: int,
    progress: Progress | None = None,
) -> Annotations:
    """Return the maps of a dataset's pictures; those of other classes than `positive` are known to be empty.

    Raises UsageError if nothing in the folder belongs to any picture.
    """
    empty = without_annotations(dataset, preprocessing, positive)
    maps, known = empty.maps, empty.known
    boxes = _read_boxes(folder)
    marked = {
        place: found
        for place, image in enumerate(dataset.files)
        if dataset.labels[place] == positive and (found := _found(folder, image, boxes)) is not None
    }
    if not marked:
        raise UsageError(
            f"nothing in {printable(str(folder))} belongs to an image with a lesion",
            hint="masks are SOURCE/NAME.png, boxes a CSV with file,left,upper,right,lower",
        )
    places, done = list(marked), 0
    chunks = [places[start : start + _CHUNK] for start in range(0, len(places), _CHUNK)]
    jobs = [([marked[place] for place in chunk], preprocessing) for chunk in chunks]
    # Spawned, not forked: torch's threads may be running in this process.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for chunk, drawn in zip(chunks, pool.map(_draw_some, jobs), strict=True):
            for place, one in zip(chunk, drawn, strict=True):
                if one is not None:
                    maps[place], known[place] = one, True
            done += len(chunk)
            if progress is not None:
                progress(done, len(places))
    return Annotations(maps, known)


def without_annotations(dataset: Dataset, preprocessing: Preprocessing, positive: int | None) -> Annotations:
    """Return what is known of a dataset without any: that pictures of other classes show no lesion.

    Without a class `positive` nothing is known.
    """
    side = preprocessing.image_size // MAP_REDUCTION
    maps = np.zeros((len(dataset), side, side), dtype=np.uint8)
    known = np.zeros(len(dataset), dtype=bool) if positive is None else dataset.labels != positive
    return Annotations(maps, known)


def _read_boxes(folder: Path) -> dict[str, list[Box]]:
    """Return the boxes of each file; raise UsageError for a CSV of boxes that is none."""
    boxes: dict[str, list[Box]] = {}
    for path in sorted(folder.glob("*.csv")):
        try:
            with path.open(newline="", encoding="utf-8") as stream:
                reader = csv.DictReader(stream)
                if not {"file", *_COLUMNS} <= set(reader.fieldnames or ()):
                    continue
                for row in reader:
                    left, upper, right, lower = (float(row[name]) for name in _COLUMNS)
                    if not (0 <= left < right <= 1 and 0 <= upper < lower <= 1):
                        raise ValueError(
                            "a box must lie within 0 to 1, left before right, upper before lower"
                        )
                    boxes.setdefault(row["file"], []).append((left, upper, right, lower))
        except (OSError, UnicodeDecodeError, ValueError, TypeError, csv.Error) as error:
            raise UsageError(
                f"cannot read the boxes in {printable(str(path))}: {printable(str(error))[:120]}",
                hint="each line is file,left,upper,right,lower in shares of the picture",
            ) from error
    return boxes


def _found(folder: Path, image: ImageFile, boxes: dict[str, list[Box]]) -> Marked | None:
    stem = image.path.stem
    for name in (stem, stem.rpartition("_")[0]):
        mask = folder / image.source / f"{name}.png"
        if name and mask.is_file():
            return image, mask, ()
    return (image, None, tuple(boxes[image.name])) if image.name in boxes else None


def _draw_some(job: tuple[Sequence[Marked], Preprocessing]) -> list[Grey | None]:
    marked, preprocessing = job
    return [_draw(*one, preprocessing) for one in marked]


def _draw(
    image: ImageFile, mask_path: Path | None, boxes: tuple[Box, ...], preprocessing: Preprocessing
) -> Grey | None:
    """Return a picture's map; None if the mask cannot be read or has another shape than the picture."""
    limits = Limits()
    try:
        slices = decode(read_file(image.path, limits).data, limits, preprocessing.reading_size).slices
        picture = slices[len(slices) // 2].image
        mask = _ellipses(picture.size, boxes) if mask_path is None else _read_mask(mask_path, limits)
    except PictureError:
        return None
    # Decoding may already have made a large picture smaller.
    if abs(mask.width * picture.height - mask.height * picture.width) > max(*mask.size, *picture.size):
        return None
    if mask.size != picture.size:
        mask = mask.resize(picture.size, Image.Resampling.NEAREST)
    return preprocess_mask(mask, picture, preprocessing, preprocessing.image_size // MAP_REDUCTION)


def _read_mask(path: Path, limits: Limits) -> Image.Image:
    mask = decode(read_file(path, limits).data, limits, _WHOLE).slices[0].image
    return mask.point(lambda value: 255 if value else 0)


def _ellipses(size: tuple[int, int], boxes: tuple[Box, ...]) -> Image.Image:
    """Return a mask of the ellipses in the boxes: lesions are rounder than boxes."""
    mask = Image.new("L", size)
    pen = ImageDraw.Draw(mask)
    for left, upper, right, lower in boxes:
        pen.ellipse((left * size[0], upper * size[1], right * size[0], lower * size[1]), fill=255)
    return mask
