"""Pictures that a model of colours judged are in colour in the viewer; what is grey keeps its own numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from daemon.cli import main
from tests.daemon.web.test_web import Server, _served, _stopped
from tests.support.browser import needs_browser
from tests.support.devtools import browser
from tests.support.flowers import flower
from tests.support.models import SMALL, untrained_model
from trainer.model.spec import Preprocessing

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flower, one that is larger than the viewer's pictures, and a grey picture of 16 bits."""
    inbox = tmp_path_factory.mktemp("colours") / "inbox"
    inbox.mkdir()
    flower("mallow", 1).save(inbox / "flower.png")
    flower("mallow", 2).resize((2048, 2048)).save(inbox / "large.png")
    Image.fromarray((np.arange(80 * 60) * 13).astype(np.uint16).reshape(60, 80)).save(inbox / "deep.png")
    return inbox


@pytest.fixture(scope="module")
def server(inbox: Path, engine_cache: Path) -> Iterator[Server]:
    folder = inbox.parent
    spec = replace(SMALL, preprocessing=Preprocessing.of_colour(64))
    weights = untrained_model(folder / "colour.safetensors", spec)
    database = folder / "x.db"
    assert main(["watch", str(inbox), "--once", "--settle", "0s", "--db", str(database), "-q",
                 "--cache", str(engine_cache), "--weights", str(weights)]) == 0  # fmt: skip
    server = _served(database, engine_cache)
    yield server
    assert _stopped(server) == 0


def _id(server: Server, name: str) -> int:
    found = server.ask(f"/api/results?q={name}").json()["results"]
    assert isinstance(found, list)
    return int(found[0]["id"])


def test_colours_come_as_they_are(server: Server, inbox: Path) -> None:
    answer = server.ask(f"/api/pixels/{_id(server, 'flower')}")

    facts = json.loads(answer.headers["x-picture"])
    pixels = np.frombuffer(answer.body, np.uint8).reshape(facts["height"], facts["width"], 3)
    with Image.open(inbox / "flower.png") as picture:
        assert (pixels == np.asarray(picture.convert("RGB"))).all()
    assert (facts["bits"], facts["low"], facts["high"], facts["slices"]) == (24, 0, 255, 1)
    assert facts["square"] == [0, 0, 1, 1]


def test_large_ones_are_made_smaller(server: Server) -> None:
    answer = server.ask(f"/api/pixels/{_id(server, 'large')}")

    facts = json.loads(answer.headers["x-picture"])
    assert (facts["width"], facts["height"], facts["reduced"]) == (1024, 1024, 2)
    assert len(answer.body) == 1024 * 1024 * 3


def test_what_is_grey_keeps_its_16_bits(server: Server, inbox: Path) -> None:
    answer = server.ask(f"/api/pixels/{_id(server, 'deep')}")

    facts = json.loads(answer.headers["x-picture"])
    assert facts["bits"] == 16
    values = np.frombuffer(answer.body, "<u2").reshape(60, 80) * facts["slope"] + facts["intercept"]
    with Image.open(inbox / "deep.png") as picture:
        assert (values == np.asarray(picture)).all()


@needs_browser
@pytest.mark.timeout(600)
def test_a_browser_shows_them_and_tells_their_luma(server: Server) -> None:
    row = (
        "(c => [...c.getContext('2d').getImageData(0, c.height >> 1, c.width, 1).data])"
        "(document.querySelector('#viewer canvas'))"
    )
    with browser() as tab:
        tab.device(1000, 900)
        tab.open(f"{server.address.rstrip('/')}/image/{_id(server, 'flower')}")
        tab.wait("document.querySelector('#viewer').dataset.heat")
        tab.press("h")  # the layer is warm: without it what is coloured is the picture
        tab.run("new Promise(go => requestAnimationFrame(() => requestAnimationFrame(go)))")
        shown = np.array(tab.run(row)).reshape(-1, 4)[:, :3].astype(int)

        assert np.ptp(shown, axis=1).max() > 60
        assert (shown[:, 2] > shown[:, 1] + 40).any()  # mallows have more blue than green
        assert tab.console == []
