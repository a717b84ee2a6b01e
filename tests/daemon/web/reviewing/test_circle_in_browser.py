"""The whole circle of review with a browser: judge, fifty answers by keyboard, export, train, judge again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.daemon.commands import test_review_circle as circle
from tests.daemon.web.reviewing import test_review_in_browser as page
from tests.daemon.web.test_web import _served, _stopped
from tests.support.browser import needs_browser
from tests.support.devtools import Tab, browser
from tests.support.models import SMALL, untrained_model
from tests.support.training import draw_heads, train

pytestmark = [pytest.mark.slow, needs_browser, pytest.mark.timeout(900)]
ANSWERS = 50


def test_what_was_answered_by_keyboard_makes_a_better_model(tmp_path: Path, engine_cache: Path) -> None:
    first = untrained_model(tmp_path / "first.safetensors", SMALL)
    heads = draw_heads(tmp_path / "heads", circle.EACH)
    others = draw_heads(tmp_path / "others", circle.EACH, first=500)
    before = circle._judge(tmp_path / "before.db", others, first)
    circle._judge(tmp_path / "x.db", heads, first)

    server = _served(tmp_path / "x.db", engine_cache, "--write", "--token", page.TOKEN)
    try:
        with browser() as tab:
            page._begin(tab, server, "Ann", "all")
            names = [_answer(tab) for _ in range(ANSWERS)]
            tab.press("u")  # and the last one once more
            again = _answer(tab)
            page._sent(tab)
    finally:
        _stopped(server)
    dataset, run, own = tmp_path / "reviewed", tmp_path / "run", tmp_path / "own.safetensors"
    circle._daemon(tmp_path / "x.db", "review", "--export-dataset", dataset)
    groups = ("--groups", dataset / "groups.csv")
    trained = train("--data", dataset, *groups, "-o", run, *circle.TRAINING, "--epochs", "4")
    better = run / "model.safetensors"
    fitted = train("calibrate", "--weights", better, "--data", dataset, *groups, "-o", own)

    assert again == names[-1]
    rows = page._standing(tmp_path / "x.db")
    assert sorted(os.fsdecode(row.path) for row in rows) == sorted(names)
    assert all(row.label == row.path.split(b"/")[0].decode() for row in rows)
    assert [one.returncode for one in (trained, fitted)] == [0, 0], trained.stderr + fitted.stderr
    assert circle._judge(tmp_path / "after.db", others, own) > before + 0.2


def _answer(tab: Tab) -> str:
    """Say what a person sees in the picture, here told by its folder; return the image's name."""
    tab.wait("!document.querySelector('#card').hidden")
    name = page._name(tab)
    wanted = json.dumps(name.split("/")[0])
    place = tab.run(
        "[...document.querySelectorAll('#classes button')].findIndex("
        f"one => one.textContent.split(' ')[1] === {wanted})"
    )
    tab.press(str(place + 1))
    tab.wait(
        f"document.querySelector('#image-name').textContent !== {json.dumps(name)}"
        " || document.querySelector('#card').hidden"
    )
    return name
