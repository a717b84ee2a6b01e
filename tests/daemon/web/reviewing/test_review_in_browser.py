"""The review page in a real browser: fifty images by keyboard, undo, reload, two people, no server."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from config.text import printable_name
from daemon.cli import main
from daemon.web.reviewing.review_messages import ANSWERS
from storage.database import open_reader
from storage.reviews.answers import StoredReview
from storage.reviews.review_rows import review_rows
from storage.schema import ReviewAnswer
from tests.daemon.web.test_web import Server, _served, _stopped
from tests.support.browser import needs_browser
from tests.support.devtools import Tab, browser
from trainer.images.phantom import phantom

pytestmark = [pytest.mark.slow, needs_browser, pytest.mark.timeout(900)]
TOKEN = "a-token-of-more-than-sixteen"
IMAGES = 50
HOSTILE = b"<img src=x onerror=alert(1)>\xe2\x80\xae.png"
# Of two classes: the first, the second, the network's, not this kind, skip.
TYPED = ("1", "2", "a", "x", "s")
SAID = {"1": "class", "2": "class", "a": "class", "x": "other-kind", "s": "skip"}


@pytest.fixture(scope="module")
def judged_once(tmp_path_factory: pytest.TempPathFactory, engine_cache: Path) -> Path:
    """Fifty images with pictures that wait for a person; one has a hostile name."""
    folder = tmp_path_factory.mktemp("judged")
    (folder / "inbox").mkdir()
    for number in range(IMAGES):
        name = HOSTILE if number == IMAGES - 1 else b"%02d.png" % number
        head = phantom(number, lesion=number % 2 == 1, size=64)
        with open(os.path.join(os.fsencode(folder), b"inbox", name), "wb") as file:
            head.save(file, "PNG")
    path = folder / "x.db"
    watch = ["watch", str(folder / "inbox"), "--once", "--settle", "0s", "--db", str(path), "-q"]
    assert main([*watch, "--cache", str(engine_cache)]) == 0
    # The model is sure of most drawn heads; what a person is asked must not hang on that.
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE result SET status = 1, label_id = coalesce(label_id, 1), confidence = 0.5")
    return path


@pytest.fixture
def database(judged_once: Path, tmp_path: Path) -> Path:
    """Return a copy of it to answer in."""
    with closing(sqlite3.connect(judged_once)) as source, closing(sqlite3.connect(tmp_path / "x.db")) as copy:
        source.backup(copy)
    return tmp_path / "x.db"


@pytest.fixture(scope="module")
def unanswered(judged_once: Path, engine_cache: Path) -> Iterator[Server]:
    """Serve it to the tests that look at pages and answer nothing."""
    server = _served(judged_once, engine_cache, "--write", "--token", TOKEN)
    yield server
    assert _stopped(server) == 0
    assert _standing(judged_once) == []


@pytest.fixture
def server(database: Path, engine_cache: Path) -> Iterator[Server]:
    server = _served(database, engine_cache, "--write", "--token", TOKEN)
    yield server
    _stopped(server)


def _begin(tab: Tab, server: Server, reviewer: str, queue: str = "uncertain") -> None:
    """Open the page as its user does, by the address that was printed, and give a name."""
    tab.device(1280, 900)
    base = server.address.partition("?")[0]
    tab.open(base, query=f"?token={TOKEN}")
    tab.open(f"{base}review?queue={queue}")
    tab.wait("document.querySelector('#name-form') && !document.querySelector('#name-form').hidden")
    tab.run(
        f"document.querySelector('#name').value = {json.dumps(reviewer)};"
        "document.querySelector('#name-form').requestSubmit()"
    )
    _shown(tab)


def _shown(tab: Tab) -> None:
    tab.wait("!document.querySelector('#card').hidden || !document.querySelector('#nothing').hidden")


def _sent(tab: Tab) -> None:
    tab.wait("document.querySelector('#sending').textContent === ''")


def _name(tab: Tab) -> str:
    return str(tab.run("document.querySelector('#image-name').textContent"))


def _standing(database: Path) -> list[StoredReview]:
    with closing(open_reader(database)) as connection:
        return list(review_rows(connection))


def test_fifty_images_are_answered_by_keyboard_with_undo_and_a_reload(server: Server, database: Path) -> None:
    with browser() as tab:
        _begin(tab, server, "Ann")
        wanted: dict[str, str] = {}
        began = time.monotonic()
        for number in range(IMAGES):
            tab.wait("!document.querySelector('#card').hidden")
            before = _name(tab)
            if number in {7, 30}:  # a slip of the finger, taken back
                tab.press("x")
                tab.press("u")
                tab.wait(f"document.querySelector('#image-name').textContent === {json.dumps(before)}")
            if number == 20:
                tab.run("location.reload()")
                tab.wait("document.readyState === 'complete'")
                _shown(tab)
                before = _name(tab)
            if number == 12:
                tab.press("n")
                for key in "odd":
                    tab.press(key)
                tab.press("Escape")
            key = TYPED[number % len(TYPED)]
            wanted[before] = key
            tab.press(key)
        tab.wait("!document.querySelector('#nothing').hidden")
        print(f"{IMAGES} images in {time.monotonic() - began:.1f} s")
        _sent(tab)
        console = tab.console

    found = {row.file_id: row for row in _standing(database)}
    assert (len(found), len(wanted)) == (IMAGES, IMAGES)
    for row in found.values():
        key = wanted[_told(row.path)]
        assert row.answer is ANSWERS[SAID[key]]
        expected = {"1": "no", "2": "yes", "a": row.shown_label}.get(key)
        assert row.label == expected
    assert [row.note for row in found.values() if row.note] == ["odd"]
    assert {row.reviewer for row in found.values()} == {"Ann"}
    # No error, nothing that the content policy refused; a picture not drawn in time is asked for again.
    assert [line for line in console if "503" not in line] == []


def _told(path: bytes) -> str:
    return printable_name(path)


def test_two_people_at_once_are_never_asked_about_the_same_image(server: Server, database: Path) -> None:
    with browser() as ann, browser() as bob:
        _begin(ann, server, "Ann")
        _begin(bob, server, "Bob")
        working = [ann, bob]
        while working:
            for tab in working:
                _shown(tab)
                tab.press("a")  # does nothing once nothing is shown
            working = [tab for tab in working if tab.run("document.querySelector('#nothing').hidden")]
        for tab in (ann, bob):
            _sent(tab)

    rows = _standing(database)
    assert sorted(row.file_id for row in rows) == list(range(1, IMAGES + 1))
    assert {row.reviewer for row in rows} == {"Ann", "Bob"}


def test_answers_wait_in_the_browser_for_a_server_that_is_away(database: Path, engine_cache: Path) -> None:
    server = _served(database, engine_cache, "--write", "--token", TOKEN)
    port = server.address.split(":")[2].split("/")[0]
    with browser() as tab:
        try:
            _begin(tab, server, "Ann")
            tab.press("1")
            _sent(tab)
        finally:
            _stopped(server)
        tab.press("1")
        tab.press("2")
        tab.wait("document.querySelector('#sending').textContent.includes('kept here')")
        again = _served(database, engine_cache, "--write", "--token", TOKEN, "--port", port)
        try:
            _sent(tab)
        finally:
            _stopped(again)

    assert [row.label for row in _standing(database)] == ["no", "no", "yes"]


def test_the_random_sample_hides_what_the_network_said(server: Server, database: Path) -> None:
    with browser() as tab:
        _begin(tab, server, "Ann", "random")
        shown = tab.run("document.querySelector('#said').textContent")
        tab.press("a")  # nobody agrees with what is hidden
        tab.press("Enter")
        first = _name(tab)
        tab.press("2")
        tab.wait(f"document.querySelector('#image-name').textContent !== {json.dumps(first)}")
        last = str(tab.run("document.querySelector('#last').textContent"))
        _sent(tab)

    (row,) = _standing(database)
    assert "hidden" in shown
    assert "the network had said" in last
    assert (row.label, row.answer, row.in_sample) == ("yes", ReviewAnswer.CLASS, True)


def test_a_hostile_name_is_text(unanswered: Server) -> None:
    with browser() as tab:
        _begin(tab, unanswered, "Ann")
        found = unanswered.ask("/api/results?q=onerror", cookie=f"bt_token={TOKEN}").json()["results"]
        assert isinstance(found, list)
        tab.open(f"{unanswered.address.partition('?')[0]}review?id={found[0]['id']}")
        _shown(tab)
        name = _name(tab)
        images = tab.run("document.querySelectorAll('#image-name img').length")

    assert "<img src=x onerror" in name
    assert "\u202e" not in name
    assert images == 0


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 800)])
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_serious(unanswered: Server, width: int, height: int, dark: bool) -> None:
    with browser() as tab:
        _begin(tab, unanswered, "Ann")
        tab.device(width, height, dark=dark)
        working = tab.audit()
        is_wide = tab.run("document.documentElement.scrollWidth") <= width
        tab.press("n")
        noting = tab.audit()
        tab.press("Escape")
        tab.press("?")
        helped = tab.audit()

    assert (working, noting, helped) == ([], [], [])
    assert is_wide
