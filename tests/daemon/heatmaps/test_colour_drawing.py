"""Pictures of a model of colours: the page's are in colour, under a map they are faded."""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from daemon.engines.cache import engine_for_drawing
from daemon.engines.factory import open_engine
from daemon.engines.parity import drawn_heads
from daemon.heatmaps.on_demand import heatmaps
from daemon.heatmaps.raw_picture import RawPicture
from daemon.heatmaps.thumbnails import RendererSetup, Thumbnail, ThumbnailRenderer, Wanted, WantedHeat
from tests.support.flowers import flower
from tests.support.models import SMALL, untrained_model
from trainer.images.picture import Limits
from trainer.images.read import JudgedFile
from trainer.images.warm_map import overlay
from trainer.model.identity import weights_sha256
from trainer.model.prediction import judge
from trainer.model.preprocess import preprocess
from trainer.model.spec import Preprocessing
from trainer.model.weights import read_spec, read_weights

COLOUR = replace(SMALL, preprocessing=Preprocessing.of_colour(64))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return untrained_model(tmp_path / "colour.safetensors", COLOUR)


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    flower("mallow", 3).save(tmp_path / "mallow.png")
    return tmp_path / "mallow.png"


def _chroma(image: Image.Image) -> float:
    return float(np.ptp(np.asarray(image.convert("RGB")).astype(int), axis=2).mean())


def test_thumbnails_are_in_colour_with_a_heatmap(weights: Path, photograph: Path, tmp_path: Path) -> None:
    sha256 = weights_sha256(weights)
    prepared = engine_for_drawing(weights, sha256, tmp_path / "cache")
    file = JudgedFile(b"", os.fsencode(photograph), hashlib.sha256(photograph.read_bytes()).digest())

    with ThumbnailRenderer(RendererSetup(prepared, Limits(), 1 << 30), seconds=60) as renderer:
        drawn = renderer.draw(Wanted(file, None, sha256, 96))

    assert isinstance(drawn, Thumbnail), drawn
    assert drawn.heatmap is not None
    plain, heatmap = (Image.open(io.BytesIO(data)) for data in (drawn.plain, drawn.heatmap))
    assert plain.size == heatmap.size == (96, 96)
    assert _chroma(plain) > 30  # a purple flower on a coloured ground


def test_a_viewer_s_layer_lies_where_the_network_looked_and_has_its_score(
    weights: Path, photograph: Path, tmp_path: Path
) -> None:
    """The score is that of the coloured picture: what a viewer shows of it is grey."""
    spec = read_spec(weights)
    sha256 = weights_sha256(weights)
    prepared = engine_for_drawing(weights, sha256, tmp_path / "cache")
    file = JudgedFile(b"", os.fsencode(photograph), hashlib.sha256(photograph.read_bytes()).digest())

    with ThumbnailRenderer(RendererSetup(prepared, Limits(), 1 << 30), seconds=60) as renderer:
        seen = renderer.heat(WantedHeat(file, 0, sha256))

    assert isinstance(seen, RawPicture), seen
    with Image.open(photograph) as picture:
        pixels = preprocess(picture.convert("RGB"), spec.preprocessing)
        width, height = picture.size
    output = open_engine(prepared).run(pixels[None])
    (prediction,) = judge(output.logits, output.features, spec, read_weights(weights).tensors)
    assert seen.facts["score"] == pytest.approx(prediction.score(spec), abs=1e-5)
    side = max(width, height)
    across, down = side / width / 2, side / height / 2
    assert seen.facts["square"] == pytest.approx(
        (0.5 - across, 0.5 - down, 0.5 + across, 0.5 + down), abs=0.02
    )


def test_heatmaps_of_photographs_are_drawn(weights: Path, photograph: Path, tmp_path: Path) -> None:
    prepared = engine_for_drawing(weights, weights_sha256(weights), tmp_path / "cache")

    ((path, image),) = heatmaps([os.fsencode(photograph)], prepared, Limits())

    assert path == os.fsencode(photograph)
    assert image.mode == "RGB"


def test_colours_fade_where_no_map_covers_them() -> None:
    """Red petals would look like what speaks for the class."""
    picture = np.asarray(flower("marigold", 1, size=64))

    faded = overlay(picture, np.zeros((4, 4), dtype=np.float32), 64)

    assert _chroma(faded) < 0.25 * _chroma(Image.fromarray(picture))


def test_precisions_are_compared_on_drawings_of_many_colours() -> None:
    drawn = drawn_heads(COLOUR)

    assert drawn.shape == (256, 64, 64, 3)
    assert (np.ptp(drawn.astype(int), axis=3).mean(axis=(1, 2)) > 10).all()
