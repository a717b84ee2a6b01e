"""Two models in one database: each row is shown with the figures, threshold and heatmap of its own."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from daemon.cli import main
from daemon.model_store import models_folder
from tests.daemon.web.test_web import Server, _served, _stopped
from tests.support.models import own_model
from trainer.images.phantom import phantom
from trainer.model.identity import default_weights, weights_sha256
from trainer.model.weights import read_spec

IMAGES = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, engine_cache: Path) -> Path:
    """Three heads in x.db, judged by the shipped model and again by another, whose file is gone."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "inbox").mkdir()
    for number in range(IMAGES):
        phantom(number, lesion=number == 1).save(folder / "inbox" / f"head {number}.png")
    own = own_model(folder / "own.safetensors")
    watch = ["watch", str(folder / "inbox"), "--once", "--settle", "0s", "--db", str(folder / "x.db"), "-q",
             "--cache", str(engine_cache)]  # fmt: skip
    assert main(watch) == 0
    assert main([*watch, "--weights", str(own), "--precision", "fp32", "--reclassify"]) == 0
    own.unlink()
    return folder


def _report(folder: Path, *options: str, database: str = "x.db") -> str:
    assert main(["report", "-o", str(folder / "r.html"), "--db", str(folder / database), *options]) == 0
    return (folder / "r.html").read_text()


def _pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def _accuracy(text: str) -> set[str]:
    return set(re.findall(r"<dt>accuracy</dt><dd>(0\.\d+)", text))


def _shipped_accuracy() -> str:
    return f"{read_spec(default_weights()).provenance.metrics['validation']['accuracy']['value']:.3f}"


@pytest.mark.slow
@pytest.mark.defects(29, 36)
def test_the_report_counts_images_and_gives_each_model_its_own_figures(folder: Path) -> None:
    page = _report(folder)

    assert "<dt>images</dt><dd>3</dd>" in page
    assert "<dt>judgements by 2 models</dt><dd>6</dd>" in page
    assert _accuracy(page) == {_shipped_accuracy(), "0.123"}
    assert "something found" in page
    assert page.count("from 0.4, uncertain between 0.3 and 0.5") == 1
    assert page.count("data-model=") == 6


@pytest.mark.slow
@pytest.mark.defects(29)
def test_the_reports_maps_of_one_image_are_those_of_two_models(folder: Path) -> None:
    page = _report(folder, "-q", "head 1")

    items = re.findall(r'<li data-time.*?data-model="(\w+)".*?</li>', page, re.DOTALL)
    pictures = re.findall(r"data:image/webp;base64,([^\"]+)", page)
    _, mine, _, shipped = (_pixels(base64.b64decode(one)) for one in pictures)

    assert len(set(items)) == 2
    assert np.abs(mine - shipped).max() > 40
    assert "No heatmap" not in page


@pytest.mark.slow
@pytest.mark.defects(29)
def test_a_report_of_one_model_names_no_other(folder: Path) -> None:
    page = _report(folder, "--model", "mine")

    assert _accuracy(page) == {"0.123"}
    assert "bt-default" not in page
    assert page.count('<li data-time="') == IMAGES
    assert "only judged by mine" in page


@pytest.mark.slow
@pytest.mark.defects(29)
def test_without_a_models_weights_its_figures_and_heatmaps_are_absent_and_it_is_said(folder: Path) -> None:
    shutil.copyfile(folder / "x.db", folder / "old.db")  # nothing kept beside it
    if (wal := folder / "x.db-wal").exists():
        shutil.copyfile(wal, folder / "old.db-wal")

    page = _report(folder, database="old.db")

    assert _accuracy(page) == {_shipped_accuracy()}  # found in the package
    assert page.count("No heatmap: its weights file is not kept beside the database") == IMAGES
    assert page.count("No figures and no heatmaps: its weights file") == 1
    assert page.count("from 0.4, uncertain between 0.3 and 0.5") == 1  # the database knows that


@pytest.fixture(scope="module")
def server(folder: Path, engine_cache: Path) -> Iterator[Server]:
    server = _served(folder / "x.db", engine_cache)
    yield server
    assert _stopped(server) == 0


@pytest.mark.slow
@pytest.mark.defects(29)
def test_the_pages_maps_of_one_image_are_those_of_two_models(server: Server, folder: Path) -> None:
    page = server.ask("/image/1").text
    addresses = [one.replace("&amp;", "&") for one in re.findall(r'src="(/image/1/heatmap[^"]+)"', page)]
    first, second = (server.ask(one) for one in addresses)

    assert (first.status, second.status) == (200, 200)
    assert np.abs(_pixels(first.body) - _pixels(second.body)).max() > 40
    assert "mine 7" in page
    assert "bt-default" in page


@pytest.mark.slow
@pytest.mark.defects(29, 36)
def test_the_pages_count_images_and_can_be_narrowed_to_a_model(server: Server, folder: Path) -> None:
    own = weights_sha256(next(path for path in models_folder(folder / "x.db").iterdir() if _is_own(path)))

    overview, models = server.ask("/?since=all").text, server.ask("/model").text
    results = server.ask("/results").text
    narrowed = server.ask(f"/results?model={own[:16]}").text
    counts = server.ask("/api/counts").json()

    assert "<dt>images</dt><dd>3</dd>" in overview
    assert _accuracy(models) == _accuracy(overview) == {_shipped_accuracy(), "0.123"}
    assert "6 results: 3 images, 6 judgements by 2 models" in results
    assert f'model={own[:16]}"' in results
    assert 'data-told="3 results"' in narrowed
    assert f'name="model" value="{own[:16]}"' in narrowed
    assert (counts["images"], counts["judgements"], counts["models"]) == (3, 6, 2)


@pytest.mark.slow
@pytest.mark.defects(30)
def test_pages_show_scores_and_sort_by_doubt(server: Server) -> None:
    page = server.ask("/results?sort=doubt&model=mine").text
    told = server.ask("/api/results?sort=doubt&model=mine").json()["results"]

    assert isinstance(told, list)
    doubts = [abs(row["score"] - row["threshold"]) for row in told]
    assert doubts == sorted(doubts)
    assert 'class="of-score"' in page
    assert f"{int(told[0]['score'] * 1000) / 1000:.3f}" in page


@pytest.mark.slow
@pytest.mark.defects(36)
def test_status_counts_images(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = str(folder / "x.db")
    capsys.readouterr()

    main(["status", "--json", "--db", database])
    told = json.loads(capsys.readouterr().out)
    main(["status", "--db", database])
    text = capsys.readouterr().out
    main(["results", "--count", "--db", database])

    assert (told["images"], told["results"], told["models"]) == (3, 6, 2)
    assert "results      3 images, 6 judgements by 2 models (" in text
    assert capsys.readouterr().out == "3\n"


def _is_own(path: Path) -> bool:
    return read_spec(path).name == "mine"
