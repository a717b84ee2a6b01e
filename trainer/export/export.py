"""Export a weights file: make each format, compare its answers with the network's, then let it appear."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from config.errors import UsageError
from config.files import atomic_write
from config.text import printable
from trainer.export.agreement import (
    Agreement,
    Answer,
    Answers,
    answered,
    check,
    compare,
    network_answers,
)
from trainer.export.onnx_file import metadata, onnx_answers, onnx_bytes
from trainer.images.arrays import Grey
from trainer.images.decode import Limits, PictureError, decode, read_file
from trainer.model.preprocess import preprocess
from trainer.model.probes import probes
from trainer.model.spec import Preprocessing
from trainer.model.weights import Weights
from trainer.networks.loading import load

_MOST_IMAGES = 1_000
_AT_ONCE = 8  # pictures that are compared


def export(
    weights: Weights, onnx: Path | None, openvino: Path | None, images: Sequence[Path]
) -> list[tuple[Path, Agreement]]:
    """Write the network as ONNX, OpenVINO or both; return each file with how it was compared.

    It is compared on the drawn probe pictures and on the images. Raises BtError, and writes nothing, if
    answers differ by more than `agreement.TOLERANCE`.
    """
    for target, suffix in ((onnx, ".onnx"), (openvino, ".xml")):
        _check_target(target, suffix)
    network = load(weights)
    model = onnx_bytes(network, weights)
    known = answered(network_answers(network), pictures_of(images, weights.spec.preprocessing))
    done: list[tuple[Path, Agreement]] = []
    if onnx is not None:
        # Written first, so that what is compared is what was written.
        with atomic_write(onnx, mode=0o644) as stream:
            stream.write(model)
            stream.flush()
            done.append((onnx, _agreed(known, onnx_answers(model), "ONNX Runtime")))
    if openvino is not None:
        from trainer.export.openvino_files import openvino_answers, openvino_pair

        with openvino_pair(model, openvino, metadata(weights)) as made:
            agreement = _agreed(known, openvino_answers(made), "OpenVINO")
        done.append((openvino, agreement))
    return done


def _agreed(known: Sequence[tuple[Grey, Answers]], exported: Answer, program: str) -> Agreement:
    agreement = compare(known, exported)
    check(agreement, program)
    return agreement


def pictures_of(images: Sequence[Path], preprocessing: Preprocessing) -> Iterator[Grey]:
    """Yield network inputs (n, S, S): the probe pictures, then the slices of each file that is an image."""
    yield probes(preprocessing.image_size, preprocessing.channels)
    limits, waiting = Limits(), list[Grey]()
    for path in images:
        try:
            found = decode(
                read_file(path, limits).data,
                limits,
                preprocessing.reading_size,
                colour=preprocessing.is_colour,
            )
        except PictureError:
            continue
        waiting += [preprocess(one.image, preprocessing) for one in found.slices]
        if len(waiting) >= _AT_ONCE:
            yield np.stack(waiting)
            waiting.clear()
    if waiting:
        yield np.stack(waiting)


def images_below(folder: Path) -> list[Path]:
    """Return up to 1,000 files below a folder, spread evenly; raise UsageError if there are none."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    if not found:
        raise UsageError(f"no files below {printable(str(folder))}", hint="give --data a folder of images")
    step = max(1, len(found) // _MOST_IMAGES)
    return found[::step][:_MOST_IMAGES]


def _check_target(target: Path | None, suffix: str) -> None:
    if target is None:
        return
    shown = printable(str(target))
    if target.suffix != suffix:
        raise UsageError(f"{shown} does not end with {suffix}", hint=f"give a file name with {suffix}")
    if target.exists() or (suffix == ".xml" and target.with_suffix(".bin").exists()):
        raise UsageError(f"{shown} is there already", hint="give another name, or delete it")
    if not target.parent.is_dir():
        raise UsageError(f"no folder at {printable(str(target.parent))}", hint="make it first")
