"""Heatmaps of files on the spot: read, infer and draw in this process, with the daemon's engine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from config.errors import BtError
from config.text import printable, printable_name
from daemon.engines.factory import open_engine
from daemon.heatmaps.overlay import class_shown, heatmap
from daemon.store.source_reader import read_judged_source, read_source
from trainer.images.decode import Limits, PictureError, decode
from trainer.images.read import FileContent, JudgedFile
from trainer.model.aggregate import combine
from trainer.model.foreign_network import WITHOUT_MAPS
from trainer.model.prediction import judge
from trainer.model.preprocess import preprocess
from trainer.model.weights import read_weights

if TYPE_CHECKING:
    from PIL import Image

    from daemon.engines.manifest import PreparedEngine

_BATCH = 16


def heatmaps(
    files: Sequence[bytes | JudgedFile], prepared: PreparedEngine, limits: Limits
) -> Iterator[tuple[bytes, Image.Image]]:
    """Yield each file's heatmap, of the slice that decided; raise BtError for one that cannot be judged.

    A JudgedFile that has changed cannot be: its heatmap would explain what was never judged.
    """
    weights = read_weights(Path(prepared.weights))
    if not weights.spec.has_maps:
        raise BtError(f"no heatmap by {printable(weights.spec.name)}: {WITHOUT_MAPS}")
    engine = open_engine(prepared)
    how = weights.spec.preprocessing
    for file in files:
        path = file.path if isinstance(file, JudgedFile) else file
        try:
            content = _content(file, limits)
            found = decode(content.data, limits, how.reading_size, colour=how.is_colour)
        except PictureError as error:
            raise BtError(f"no heatmap of {printable_name(path)}: {error.reason}") from error
        inputs = np.stack([preprocess(one.image, how) for one in found.slices])
        outputs = [engine.run(inputs[start : start + _BATCH]) for start in range(0, len(inputs), _BATCH)]
        maps = np.concatenate([output.maps for output in outputs])
        predictions = [
            one
            for output in outputs
            for one in judge(output.logits, output.features, weights.spec, weights.tensors)
        ]
        places = [one.index for one in found.slices]
        combined = combine(predictions, places, weights.spec)
        whole, place = combined.prediction, places.index(combined.decisive)
        yield (
            path,
            heatmap(
                inputs[place],
                maps[place, class_shown(whole, weights.spec)],
                whole,
                weights.spec,
                weights.sha256,
            ),
        )


def _content(file: bytes | JudgedFile, limits: Limits) -> FileContent:
    if isinstance(file, JudgedFile):
        return read_judged_source(file, limits)
    return read_source(file, limits)


def write_heatmaps(
    paths: Sequence[bytes], prepared: PreparedEngine, limits: Limits, folder: Path
) -> list[Path]:
    """Write NAME.heatmap.png for each file into a folder, never over another; return their paths."""
    try:
        written = []
        for path, image in heatmaps(paths, prepared, limits):
            written.append(_save(image, folder, os.fsdecode(os.path.basename(path))[:200]))
    except OSError as error:
        raise BtError(
            f"cannot write heatmaps to {folder}: {error.strerror}", hint="choose another folder"
        ) from error
    return written


def _save(image: Image.Image, folder: Path, name: str) -> Path:
    number = 0
    while True:
        place = folder / f"{name}{f'.{number}' if number else ''}.heatmap.png"
        try:
            with place.open("xb") as stream:
                image.save(stream, "PNG")
        except FileExistsError:
            number += 1
            continue
        return place
