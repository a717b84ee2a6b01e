"""Heatmaps: where the network looked, drawn over what it was given."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from config.text import DISCLAIMER
from daemon.cli import main
from daemon.heatmaps.overlay import caption, heatmap
from daemon.model_store import models_folder
from tests.support.models import own_model
from trainer.images.phantom import phantom
from trainer.model.identity import default_weights, weights_sha256
from trainer.model.prediction import Prediction, Verdict
from trainer.model.spec import Decision, ModelSpec
from trainer.model.weights import read_spec

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


@pytest.mark.parametrize("label", ["yes", None])
def test_a_caption_of_the_shipped_model_is_as_wide_as_its_picture(label: str | None) -> None:
    """The disclaimer above all: its last words were cut off."""
    spec = read_spec(default_weights())
    verdict = Verdict.REJECTED if label is None else Verdict.UNCERTAIN
    lines = caption(Prediction(verdict, label, 0.4, (0.6, 0.4), 9.0), spec, "0" * 64)
    pen = ImageDraw.Draw(Image.new("L", (1, 1)))

    assert DISCLAIMER in lines
    assert max(pen.textlength(line) for line in lines) <= 512 - 2 * 6


@pytest.mark.slow
@pytest.mark.defects(38)
def test_classify_and_show_write_heatmaps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BT_DEVICE", "cpu")  # where pictures are drawn
    inbox, database = tmp_path / "inbox", str(tmp_path / "x.db")
    inbox.mkdir()
    phantom(1, lesion=True).save(inbox / "slice.png")

    classified = main(["classify", str(inbox / "slice.png"), "--heatmap", str(tmp_path / "maps")])
    watched = main(["watch", str(inbox), "--once", "--settle", "0s", "--db", database])
    shown = main(["show", str(inbox / "slice.png"), "--db", database, "--heatmap", str(tmp_path / "map.png")])

    show = ["show", str(inbox / "slice.png"), "--db", database, "--heatmap"]
    as_jpeg = main([*show, str(tmp_path / "map.JPG")])
    capsys.readouterr()
    refused = main([*show, str(tmp_path / "map.webp")])

    assert (classified, watched, shown, as_jpeg) == (0, 0, 0, 0)
    assert (tmp_path / "map.JPG").read_bytes()[:3] == b"\xff\xd8\xff"
    assert (refused, (tmp_path / "map.webp").exists()) == (2, False)
    assert "name it map.png or map.jpg" in capsys.readouterr().err
    one, other = Image.open(tmp_path / "maps" / "slice.png.heatmap.png"), Image.open(tmp_path / "map.png")
    assert one.tobytes() == other.tobytes()


_SEED = 29


@pytest.fixture
def judged_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A folder with x.db and one image, judged by the shipped model, then by one whose file is gone."""
    # A model of these tests alone: of another's an engine of another precision may be at hand, which draws.
    inbox, own = tmp_path / "inbox", own_model(tmp_path / "own.safetensors", _SEED)
    inbox.mkdir()
    phantom(1, lesion=True).save(inbox / "slice.png")
    watch = ["watch", str(inbox), "--once", "--settle", "0s", "--db", str(tmp_path / "x.db"), "-q"]
    assert main(watch) == 0, capsys.readouterr().err
    mine = ["--weights", str(own), "--precision", "fp32", "--reclassify"]
    assert main([*watch, *mine]) == 0, capsys.readouterr().err
    own.unlink()
    return tmp_path


def _map(folder: Path, *options: str) -> np.ndarray:
    place = folder / "map.png"
    assert main(["show", "1", "--db", str(folder / "x.db"), "--heatmap", str(place), *options]) == 0
    return np.asarray(Image.open(place))


@pytest.mark.slow
@pytest.mark.defects(29)
def test_a_heatmap_is_drawn_by_the_model_that_judged_whatever_the_settings_say(
    judged_twice: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image = judged_twice / "inbox" / "slice.png"
    sha256 = weights_sha256(own_model(judged_twice / "m", _SEED))
    own = models_folder(judged_twice / "x.db") / f"{sha256}.safetensors"

    latest = _map(judged_twice)
    told = capsys.readouterr().err
    first = _map(judged_twice, "--model", "bt-default")
    mine = main(["classify", str(image), "--heatmap", str(judged_twice / "a"), "--weights", str(own),
                 "--precision", "fp32"])  # fmt: skip
    shipped = main(["classify", str(image), "--heatmap", str(judged_twice / "b")])

    assert "heatmap by mine 7 " in told
    assert (mine, shipped) == (0, 0)
    assert np.array_equal(latest, np.asarray(Image.open(judged_twice / "a" / "slice.png.heatmap.png")))
    assert np.array_equal(first, np.asarray(Image.open(judged_twice / "b" / "slice.png.heatmap.png")))
    assert np.abs(latest[:512].astype(int) - first[:512]).max() > 40  # two models, two maps


@pytest.mark.slow
@pytest.mark.defects(29)
def test_without_the_weights_that_judged_there_is_no_heatmap_but_a_line_that_says_why(
    judged_twice: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(models_folder(judged_twice / "x.db"))  # as in a database of an older version
    place, show = judged_twice / "map.png", ["show", "1", "--db", str(judged_twice / "x.db"), "--heatmap"]
    capsys.readouterr()

    code = main([*show, str(place)])
    out, err = capsys.readouterr()
    by_shipped = main([*show, str(place), "--model", "bt-default"])

    assert code == 1
    assert "mine 7" in out  # the story is told
    assert err.splitlines()[-1].startswith("bt-daemon: no heatmap by mine 7 ")
    assert by_shipped == 0  # the package has it


@pytest.mark.slow
@pytest.mark.defects(29)
def test_a_file_that_changed_has_no_heatmap_of_what_was_judged(
    judged_twice: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    phantom(9, lesion=False).save(judged_twice / "inbox" / "slice.png")

    code = main(["show", "1", "--db", str(judged_twice / "x.db"), "--heatmap", str(judged_twice / "m.png")])

    assert code == 1
    assert "the file has changed since it was judged" in capsys.readouterr().err
    assert not (judged_twice / "m.png").exists()
