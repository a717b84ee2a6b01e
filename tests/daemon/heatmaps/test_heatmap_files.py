"""`watch --heatmaps DIR`: a heatmap of each judged image, and nothing lost for want of one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.daemons import bt_daemon, rows
from trainer.images.phantom import phantom

pytestmark = pytest.mark.slow


def _watch(folder: Path, *, heatmaps: Path) -> str:
    done = bt_daemon(
        "watch", folder / "inbox", "--once", "--settle", "0s", "--db", folder / "x.db",
        "--heatmaps", heatmaps,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return str(done.stderr)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven drawn heads, one of them twice, and a text."""
    (tmp_path / "inbox").mkdir()
    for number in range(7):
        phantom(number, lesion=number % 2 == 0).save(tmp_path / "inbox" / f"{number}.png")
    shutil.copy(tmp_path / "inbox" / "0.png", tmp_path / "inbox" / "twin.png")
    (tmp_path / "inbox" / "text.jpg").write_text("no image")
    return tmp_path


def test_every_judged_image_has_one_under_its_id(folder: Path) -> None:
    _watch(folder, heatmaps=folder / "maps")

    wanted = {str(row["id"]): row["class"] for row in rows(folder / "x.db") if row["class"] is not None}
    found = {path.stem: path for path in (folder / "maps").rglob("*") if path.is_file()}
    assert set(found) == set(wanted)
    assert len(found) >= 5
    assert "yes" in wanted.values()
    for number, path in found.items():
        with Image.open(path) as image:
            image.load()
            assert "Not a medical device" in str(image.info["comment"])
            if wanted[number] == "yes":  # where nothing speaks for a tumour the picture stays grey
                assert np.ptp(np.asarray(image.convert("HSV"))[..., 1]) > 100


def test_a_folder_inside_the_inbox_is_not_judged(folder: Path) -> None:
    _watch(folder, heatmaps=folder / "inbox" / "maps")
    first = len(rows(folder / "x.db"))
    _watch(folder, heatmaps=folder / "inbox" / "maps")

    assert first == len(rows(folder / "x.db")) == 9


def test_a_folder_that_cannot_be_made_is_one_line(folder: Path) -> None:
    (folder / "file").write_text("")

    done = bt_daemon(
        "watch", folder / "inbox", "--once", "--db", folder / "x.db", "--heatmaps", folder / "file" / "x"
    )

    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_a_full_disk_costs_the_heatmap_and_not_the_result(folder: Path) -> None:
    maps = folder / "maps"
    maps.mkdir()
    (maps / "0000").write_text("in the way")  # as good as a disk that takes nothing

    said = _watch(folder, heatmaps=maps)

    assert len(rows(folder / "x.db")) == 9
    assert "no heatmaps can be written" in said
    assert os.listdir(maps) == ["0000"]
