"""Heatmaps: where the network looked, drawn over what it was given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from daemon.cli import main
from daemon.explain import heatmap
from daemon.phantom import phantom
from trainer.judgement import Prediction, Verdict
from trainer.spec import Decision, ModelSpec

SPEC = ModelSpec("test", "1", "cnn", ("no", "yes"), decision=Decision(positive="yes"))
JUDGED = Prediction(Verdict.OK, "yes", 0.9, (0.1, 0.9), None)


def test_the_strongest_place_of_the_map_is_the_warmest_place_of_the_picture() -> None:
    activation = np.zeros((8, 8), dtype=np.float32)
    activation[2, 5] = 3.0

    drawn = np.asarray(heatmap(np.full((64, 64), 60, dtype=np.uint8), activation, JUDGED, SPEC, "0" * 64))

    warmth = drawn[:512, :, 0].astype(int) - drawn[:512, :, 2]
    row, column = np.unravel_index(warmth.argmax(), warmth.shape)
    assert (row * 8 // 512, column * 8 // 512) == (2, 5)


def test_a_map_that_speaks_against_the_class_leaves_the_picture_grey() -> None:
    activation = np.full((8, 8), -2.0, dtype=np.float32)

    drawn = np.asarray(heatmap(np.full((64, 64), 60, dtype=np.uint8), activation, JUDGED, SPEC, "0" * 64))

    assert (drawn[:512] == 60).all()


def test_a_rejected_image_has_a_caption_without_a_class() -> None:
    rejected = Prediction(Verdict.REJECTED, None, None, (0.5, 0.5), 99.0)

    drawn = heatmap(
        np.zeros((64, 64), dtype=np.uint8), np.zeros((8, 8), dtype=np.float32), rejected, SPEC, "0" * 64
    )

    assert drawn.size[0] == 512
    assert drawn.size[1] > 512


@pytest.mark.slow
def test_classify_and_show_write_heatmaps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inbox, database = tmp_path / "inbox", str(tmp_path / "x.db")
    inbox.mkdir()
    phantom(1, lesion=True).save(inbox / "slice.png")

    classified = main(["classify", str(inbox / "slice.png"), "--heatmap", str(tmp_path / "maps")])
    watched = main(["watch", str(inbox), "--once", "--settle", "0s", "--db", database])
    shown = main(["show", str(inbox / "slice.png"), "--db", database, "--heatmap", str(tmp_path / "map.png")])

    assert (classified, watched, shown) == (0, 0, 0), capsys.readouterr().err
    one, other = Image.open(tmp_path / "maps" / "slice.png.heatmap.png"), Image.open(tmp_path / "map.png")
    assert one.tobytes() == other.tobytes()
