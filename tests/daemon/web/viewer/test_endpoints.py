"""Slices and heatmaps for the viewer: the real server, its reading process, and files that mean harm."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nibabel
import numpy as np
import psutil
import pytest
from PIL import Image

from daemon.cli import main
from daemon.model_store import models_folder
from daemon.web.viewer.slice_reader import ReaderSetup, SliceReader, WantedSlice
from tests.daemon.web.test_web import Answer, Server, _served, _stopped
from tests.support.dicom_series import write_series
from tests.support.models import own_model
from trainer.images.decode import Limits, decode, read_file
from trainer.images.phantom import phantom
from trainer.images.read import JudgedFile
from trainer.model.identity import default_weights
from trainer.model.preprocess import preprocess
from trainer.model.weights import read_spec

pytestmark = pytest.mark.slow
VOLUME = (40, 50, 12)


def _volume() -> np.ndarray:
    """Numbers beyond 8 bits, of which each tells its place."""
    x, y, z = np.meshgrid(*(np.arange(side) for side in VOLUME), indexing="ij")
    return (x + 50 * y + 3000 * z).astype(np.int16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, engine_cache: Path) -> Path:
    """A head, a volume, a series, and pictures of odd kinds, judged by the shipped model."""
    folder = tmp_path_factory.mktemp("viewer")
    inbox = folder / "inbox"
    inbox.mkdir()
    phantom(1, lesion=True).save(inbox / "head.png")
    Image.new("L", (1, 1), 77).save(inbox / "dot.png")
    Image.new("CMYK", (30, 20), (10, 200, 30, 40)).save(inbox / "ink.jpg")
    Image.fromarray((np.arange(300 * 3000) % 60_000).astype(np.uint16).reshape(300, 3000)).save(
        inbox / "wide.tif"
    )
    affine = np.diag([0.5, 0.5, 4.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(_volume(), affine), inbox / "volume.nii.gz")
    (inbox / "series").mkdir()
    write_series(inbox / "series", 1, 4)
    for name in ("gone.png", "changed.png", "link.png"):
        phantom(5, lesion=False).save(inbox / name)
    watch = ["watch", str(inbox), "--once", "--settle", "0s", "--db", str(folder / "x.db"), "-q",
             "--cache", str(engine_cache)]  # fmt: skip
    assert main(watch) == 0
    return folder


@pytest.fixture(scope="module")
def server(folder: Path, engine_cache: Path) -> Iterator[Server]:
    server = _served(folder / "x.db", engine_cache)
    yield server
    assert _stopped(server) == 0


def _id(server: Server, name: str) -> int:
    found = server.ask(f"/api/results?q={name}").json()["results"]
    assert isinstance(found, list)
    return int(found[0]["id"])


def _picture(answer: Answer) -> tuple[dict[str, Any], np.ndarray]:
    assert answer.status == 200, answer.text
    facts = json.loads(answer.headers["x-picture"])
    pixels = np.frombuffer(answer.body, "<u2" if facts["bits"] == 16 else "u1")
    values = facts["intercept"] + facts["slope"] * pixels.reshape(facts["height"], facts["width"])
    return facts, values


def _shown(values: np.ndarray, facts: dict[str, Any]) -> np.ndarray:
    """Return numbers as the viewer shows them at first."""
    low, high = facts["low"], facts["high"]
    grey: np.ndarray = np.clip((values - low) / (high - low), 0, 1) * 255
    return grey


def test_numbers_of_a_volume_come_exactly_and_slice_by_slice(server: Server) -> None:
    number = _id(server, "volume.nii.gz")

    for place in (0, 7, 11):
        facts, values = _picture(server.ask(f"/api/pixels/{number}?slice={place}"))

        # Front at the top, the patient's right on the left.
        assert (values == _volume()[::-1, ::-1, place].T).all()
        assert (facts["slice"], facts["slices"], facts["bits"]) == (place, 12, 16)
        assert facts["spacing"] == [0.5, 0.5]


def test_dicom_says_its_place_and_png_has_8_bits(server: Server, folder: Path) -> None:
    facts, _ = _picture(server.ask(f"/api/pixels/{_id(server, 'series/')}"))
    assert facts["slices"] == 1

    facts, values = _picture(server.ask(f"/api/pixels/{_id(server, 'head.png')}"))
    assert facts["bits"] == 8
    assert (values == np.asarray(Image.open(folder / "inbox" / "head.png").convert("L"))).all()


@pytest.mark.parametrize("name", ["head.png", "series/", "volume.nii.gz"])
def test_window_and_square_are_those_of_the_network(server: Server, folder: Path, name: str) -> None:
    row = server.ask(f"/api/results?q={name}").json()["results"]
    assert isinstance(row, list)
    spec = read_spec(default_weights()).preprocessing
    content = read_file(folder / "inbox" / row[0]["path"], Limits())
    decoded = decode(content.data, Limits(), spec.image_size)
    chosen = next(one for one in decoded.slices if one.index == (row[0].get("slice_index") or 0))
    seen = preprocess(chosen.image, spec)

    facts, values = _picture(server.ask(f"/api/pixels/{row[0]['id']}?slice={chosen.index}"))
    shown = Image.fromarray(_shown(values, facts).astype(np.uint8))
    left, upper, right, lower = facts["square"]
    box = (left * shown.width, upper * shown.height, right * shown.width, lower * shown.height)
    cut = shown.transform(seen.shape, Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)

    assert np.abs(np.asarray(cut).astype(int) - seen).mean() < 3


def test_large_pictures_are_made_smaller_and_odd_ones_come(server: Server) -> None:
    facts, _ = _picture(server.ask(f"/api/pixels/{_id(server, 'wide.tif')}"))
    assert (facts["width"], facts["height"], facts["reduced"]) == (1000, 100, 3)

    facts, values = _picture(server.ask(f"/api/pixels/{_id(server, 'dot.png')}"))
    assert values.tolist() == [[77]]

    facts, _ = _picture(server.ask(f"/api/pixels/{_id(server, 'ink.jpg')}"))
    assert (facts["width"], facts["height"]) == (30, 20)


def test_map_of_any_slice_comes_with_its_place_and_score(server: Server) -> None:
    number = _id(server, "volume.nii.gz")

    answer = server.ask(f"/api/heat/{number}?slice=3")

    facts = json.loads(answer.headers["x-picture"])
    assert (answer.status, len(answer.body)) == (200, 128 * 128)
    assert 0 <= facts["score"] <= 1
    assert len(facts["square"]) == 4
    assert max(np.frombuffer(server.ask(f"/api/heat/{_id(server, 'head.png')}").body, "u1")) > 200


def test_view_names_the_answers_and_the_files_of_the_series(server: Server) -> None:
    told: dict[str, Any] = server.ask(f"/api/view/{_id(server, 'series/')}").json()

    assert len(told["series"]["files"]) == 4
    assert len(told["models"]) == 1


@pytest.mark.parametrize("kind", ["pixels", "heat"])
@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("slice=12", 404), ("slice=999999", 404), ("slice=-1", 400), ("slice=1e3", 400), ("slice=٣", 400),
        ("slice=9999999999999999", 400), ("slice=0&model=zz", 400), ("model=../../etc/passwd", 400),
        ("model=" + "0" * 64, 404), ("slice=0x1", 400),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(server: Server, kind: str, query: str, status: int) -> None:
    answer = server.ask(f"/api/{kind}/{_id(server, 'volume.nii.gz')}?{quote(query, safe='=&')}")

    assert answer.status == status
    assert "error" in answer.json()


@pytest.mark.parametrize("place", ["0", "999999999999999999", "-1", "x", "1/../2", "%00", "1.0"])
def test_ids_of_nothing_are_not_found(server: Server, place: str) -> None:
    for kind in ("pixels", "heat", "view"):
        assert server.ask(f"/api/{kind}/{place}").status == 404


def test_file_that_changed_or_is_gone_is_not_shown(server: Server, folder: Path) -> None:
    inbox = folder / "inbox"
    numbers = {name: _id(server, name) for name in ("gone.png", "changed.png", "link.png")}
    assert server.ask(f"/api/pixels/{numbers['changed.png']}").status == 200
    (inbox / "gone.png").unlink()
    phantom(9, lesion=True).save(inbox / "changed.png")
    (inbox / "link.png").unlink()
    (inbox / "link.png").symlink_to("/etc/passwd")

    told = {
        name: (answer.status, answer.json()["error"])
        for name, number in numbers.items()
        for answer in [server.ask(f"/api/pixels/{number}")]
    }

    assert told == {
        "gone.png": (404, "the file is gone"),
        "changed.png": (404, "the file has changed since it was judged"),
        "link.png": (404, "a symbolic link, not a regular file"),
    }


def test_token_is_asked_for(folder: Path, engine_cache: Path) -> None:
    server = _served(folder / "x.db", engine_cache, "--token", "a" * 20)

    for kind in ("pixels", "heat", "view"):
        assert server.ask(f"/api/{kind}/1").status == 401
        assert server.ask(f"/api/{kind}/1", Authorization="Bearer " + "a" * 20).status == 200
    assert _stopped(server) == 0


def test_thousand_slices_take_bounded_memory_and_time(server: Server) -> None:
    number = _id(server, "volume.nii.gz")
    server.ask(f"/api/pixels/{number}")
    family = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children()]
    before = sum(one.memory_info().rss for one in family)
    spent = sum(sum(one.cpu_times()[:2]) for one in family)

    for place in range(1000):
        assert server.ask(f"/api/pixels/{number}?slice={place % 12}").status == 200

    assert sum(one.memory_info().rss for one in family) - before < 32 << 20
    # Of processor time, which other programs on the machine do not lengthen much.
    assert sum(sum(one.cpu_times()[:2]) for one in family) - spent < 30


def test_reader_is_replaced_when_it_dies_or_hangs(tmp_path: Path) -> None:
    phantom(1, lesion=False).save(tmp_path / "a.png")
    file = JudgedFile(bytes(tmp_path), b"a.png", read_file(tmp_path / "a.png", Limits()).sha256)
    with SliceReader(ReaderSetup(Limits(), 1 << 30), seconds=60) as reader:
        first = reader.read(WantedSlice(file, 0, None))
        assert reader.process_id is not None
        os.kill(reader.process_id, 9)
        time.sleep(0.1)

        assert reader.read(WantedSlice(file, 0, None)) == first


def test_without_the_model_the_window_is_the_reader_s_own(tmp_path: Path, engine_cache: Path) -> None:
    own = own_model(tmp_path / "own.safetensors")
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    phantom(1, lesion=True).save(inbox / "head.png")
    watch = ["watch", str(inbox), "--once", "--settle", "0s", "--db", str(tmp_path / "x.db"), "-q",
             "--cache", str(engine_cache), "--weights", str(own), "--precision", "fp32"]  # fmt: skip
    assert main(watch) == 0
    own.unlink()
    shutil.rmtree(models_folder(tmp_path / "x.db"))
    server = _served(tmp_path / "x.db", engine_cache)

    facts, _ = _picture(server.ask("/api/pixels/1"))

    assert facts["square"] is None
    assert (facts["low"], facts["high"]) == (0, 255)
    assert server.ask("/api/heat/1").status == 404
    assert _stopped(server) == 0


def test_a_picture_that_is_not_drawn_in_time_is_told_to_be_asked_for_again(server: Server) -> None:
    addresses = [f"/image/{_id(server, name)}/plain.webp?size=small" for name in ("dot.png", "ink.jpg")]
    assert server.ask(addresses[0]).status == 200  # the drawing process is there now
    (drawing,) = [
        one for one in psutil.Process(server.process.pid).children()
        if "daemon.heatmaps.thumbnail_main" in one.cmdline()
    ]  # fmt: skip
    large = [address.removesuffix("?size=small") for address in addresses]  # not kept from before
    drawing.suspend()
    try:
        with ThreadPoolExecutor(2) as pool:
            asked = [pool.submit(server.ask, address) for address in large]
            late = next(as_completed(asked)).result()
            drawing.resume()
            in_time = [one.result() for one in asked]
    finally:
        drawing.resume()

    assert (late.status, late.headers["retry-after"]) == (503, "1")
    assert sorted(one.status for one in in_time) == [200, 503]
    assert [server.ask(address).status for address in large] == [200, 200]
