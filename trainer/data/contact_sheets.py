"""Contact sheets: many pictures on one PNG, each with its file's name and a word on it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from config.errors import DataError
from config.text import printable
from trainer.data.dataset import Dataset
from trainer.data.groups import Pairs
from trainer.data.strangers import Strangers
from trainer.images.arrays import Ints

_CELL, _LINE, _COLUMNS = 128, 12, 8  # pixels, pixels, pictures
_PAIRS = 32  # mirrored pairs shown, evenly from all
_MOST = 160  # pictures of groups with several labels on one sheet


def draw_audit(
    folder: Path,
    dataset: Dataset,
    strangers: Sequence[Strangers],
    pairs: Pairs,
    conflicts: Sequence[Sequence[int]],
) -> list[str]:
    """Write the sheets of an audit into a folder, which is made; return their names.

    `conflicts` are groups of twins with several labels, as places in the dataset.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = []
        for name, (places, told) in _sheets(dataset, strangers, pairs, conflicts).items():
            if places:
                _draw(folder / name, dataset, places, told)
                names.append(name)
    except OSError as error:
        raise DataError(
            f"cannot write sheets to {printable(str(folder))}: {error.strerror}",
            hint="give another --sheets folder",
        ) from error
    return names


def _sheets(
    dataset: Dataset, strangers: Sequence[Strangers], pairs: Pairs, conflicts: Sequence[Sequence[int]]
) -> dict[str, tuple[list[int], list[str]]]:
    """Return of each sheet the pictures' places in the dataset and a word on each."""
    sheets = {
        _safe(f"strangers {one.source} {one.label} {one.measure}") + ".png": (
            one.indices.tolist(),
            [f"{score:.1f}" for score in one.scores],
        )
        for one in strangers
    }
    members = [(place, number) for number, group in enumerate(conflicts) for place in group][:_MOST]
    told = [f"group {number}: {dataset.classes[dataset.labels[place]]}" for place, number in members]
    sheets["label-conflicts.png"] = [place for place, _ in members], told
    mirrored = np.flatnonzero(pairs.mirrored)
    some = mirrored[np.linspace(0, len(mirrored) - 1, min(_PAIRS, len(mirrored))).astype(np.int64)]
    both = np.stack((pairs.first[some], pairs.second[some]), axis=1).ravel().tolist()
    sheets["mirrored-pairs.png"] = both, [f"{bits} bits" for bits in np.repeat(pairs.bits[some], 2)]
    return sheets


def conflicting(groups: Ints, dataset: Dataset) -> list[list[int]]:
    """Return the groups (n,) whose images have several labels, as places in the dataset."""
    spans = np.unique(np.stack((groups, dataset.labels), axis=1), axis=0)
    numbers, counts = np.unique(spans[:, 0], return_counts=True)
    return [np.flatnonzero(groups == number).tolist() for number in numbers[counts > 1]]


def strangers_report(strangers: Sequence[Strangers], dataset: Dataset) -> list[Mapping[str, Any]]:
    """Return the rankings as what becomes JSON: by source, class and measure, files with their scores."""
    return [
        {
            "source": one.source,
            "label": one.label,
            "measure": one.measure,
            "files": [
                {"file": dataset.files[place].name, "score": round(float(score), 2)}
                for place, score in zip(one.indices.tolist(), one.scores.tolist(), strict=True)
            ],
        }
        for one in strangers
    ]


def _draw(path: Path, dataset: Dataset, places: Sequence[int], told: Sequence[str]) -> None:
    rows = -(-len(places) // _COLUMNS)
    high = _CELL + 2 * _LINE
    sheet = Image.new("L", (_COLUMNS * (_CELL + 2), rows * high))
    pen = ImageDraw.Draw(sheet)
    for number, (place, words) in enumerate(zip(places, told, strict=True)):
        x, y = number % _COLUMNS * (_CELL + 2), number // _COLUMNS * high
        picture = Image.fromarray(np.asarray(dataset.pictures[place]))
        sheet.paste(picture.resize((_CELL, _CELL), Image.Resampling.BOX), (x, y + 2 * _LINE))
        name = printable(dataset.files[place].path.name).encode("ascii", "replace").decode()
        pen.text((x, y), name[-20:], fill=255)
        pen.text((x, y + _LINE), words.encode("ascii", "replace").decode()[:20], fill=200)
    sheet.save(path)


def _safe(name: str) -> str:
    """Return the name with only letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^\w.-]+", "-", name)
