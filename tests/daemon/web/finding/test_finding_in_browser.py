"""The results page and the overview in a real browser: typed into, clicked, audited by axe-core."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.web.test_web import Server, _served, _stopped
from tests.support.browser import needs_browser
from tests.support.devtools import Tab, browser
from tests.support.random_results import random_database

pytestmark = [pytest.mark.slow, needs_browser]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, engine_cache: Path) -> Iterator[Server]:
    """Serve a database of random results."""
    running = _served(random_database(tmp_path_factory.mktemp("finding"), 5, 160), engine_cache)
    yield running
    assert _stopped(running) == 0


@pytest.fixture(scope="module")
def page() -> Iterator[Tab]:
    """Return one tab for all tests."""
    with browser() as found:
        yield found


def _at(server: Server, path: str) -> str:
    return server.address.rstrip("/") + path


def _total(page: Tab) -> str:
    page.wait("document.querySelector('.total') !== null")
    return str(page.run("document.querySelector('.total').dataset.told"))


def _files(page: Tab) -> list[str]:
    script = "[...document.querySelectorAll('td[data-name=file] a')].map(a => a.textContent)"
    found: list[str] = page.run(script)
    return found


def test_results_follow_what_is_typed_and_the_address_can_be_shared(server: Server, page: Tab) -> None:
    page.device()
    page.open(_at(server, "/results"))
    everything = _total(page)
    page.press("/")
    page.type("trunc")
    page.wait("location.search === '?q=trunc'")
    page.wait(f"document.querySelector('.total').dataset.told !== {everything!r}")
    typed = _total(page)

    page.run("window.before = 1; location.reload()")
    page.wait(
        "!window.before && document.readyState === 'complete'"
        " && document.querySelector('#q').value === 'trunc'"
    )

    assert _total(page) == typed
    assert page.run(
        "[...document.querySelectorAll('tbody.rows tr')].every(r => r.textContent.includes('trunc'))"
    )
    assert server.ask("/results?q=trunc").text.count(f'data-told="{typed}"') == 1  # as without a script


def test_a_facet_narrows_a_header_sorts_and_back_takes_both_back(server: Server, page: Tab) -> None:
    page.open(_at(server, "/results"))
    everything = _total(page)
    page.click_on(".facets a[href*='status=error']")
    page.wait("location.search.includes('status=error')")
    page.loaded()
    errors = _total(page)
    page.click_on("th.of-file a")
    page.wait("location.search.includes('sort=file')")
    page.loaded()

    assert errors != everything
    assert _total(page) == errors
    assert page.run("document.querySelector('th.of-file').getAttribute('aria-sort')") == "ascending"
    files = _files(page)
    assert len(files) == int(errors.split()[0])

    page.click_on("th.of-file a")
    page.wait("location.search.includes('order=reverse')")
    page.loaded()
    assert _files(page) == files[::-1]

    for wanted in ("sort=file", "status=error", ""):
        page.run("history.back()")
        page.wait(f"location.search.includes({wanted!r}) && !location.search.includes('order')")
    page.wait(f"document.querySelector('.total')?.dataset.told === {everything!r}")


def test_rows_are_gone_through_and_opened_by_keyboard(server: Server, page: Tab) -> None:
    page.open(_at(server, "/results?status=ok"))
    page.press("j")
    page.press("j")
    second = page.run("document.activeElement.getAttribute('href')")
    assert page.run("document.querySelectorAll('tbody.rows tr')[1].contains(document.activeElement)")
    page.press("?")
    assert page.run("document.querySelector('#keys').open")
    page.press("Escape")
    page.press("k")
    page.press("j")
    page.press("Enter")
    page.wait(f"location.pathname + location.search === {second!r}")

    assert "status=ok" in second


def test_nonsense_is_told_and_the_list_stays(server: Server, page: Tab) -> None:
    page.open(_at(server, "/results"))
    everything = _total(page)
    page.run(
        "document.querySelector('.more').open = true; document.querySelector('[name=min_score]').focus()"
    )
    page.type("x")
    page.wait("document.querySelector('#told').textContent.includes('min_score must be a number')")

    assert _total(page) == everything


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(
    "path",
    ["/?since=all", "/results", "/results?view=pictures", "/results?view=compact&status=uncertain", "/errors",
     "/model", "/series", "/image/1"],
)  # fmt: skip
def test_axe_finds_nothing_serious(server: Server, page: Tab, path: str, dark: bool, width: int) -> None:
    page.device(width=width, dark=dark)
    page.open(_at(server, path))

    assert page.audit() == []
    assert page.run("document.documentElement.scrollWidth") <= width


def test_tiles_lead_to_the_lists_that_they_count(server: Server, page: Tab) -> None:
    page.device()
    page.open(_at(server, "/?since=all"))
    tiles = page.run(
        "[...document.querySelectorAll('.tile')].map(t => [t.querySelector('.title').textContent,"
        " t.querySelector('a').getAttribute('href')])"
    )
    links = page.run(
        "[...document.querySelectorAll('.tile .parts a')].map(a => [a.textContent, a.getAttribute('href')])"
    )

    assert [tile[0] for tile in tiles] == ["Came in", "Found", "Sure of", "Waits for you"]
    assert tiles[3][1] == "/review"
    assert links
    for words, address in links:
        page.open(_at(server, address + "&model=a1b2c3d4a1b2c3d4"))
        assert _total(page).split()[0] == words.split()[0]


def test_paper_gets_the_list_without_what_is_clicked(server: Server, page: Tab) -> None:
    page.device(paper=True)
    page.open(_at(server, "/results"))

    assert page.run("getComputedStyle(document.querySelector('.side')).display") == "none"
    assert page.run("getComputedStyle(document.querySelector('#find')).display") == "none"
    assert page.run("getComputedStyle(document.querySelector('tbody.rows tr')).display") != "none"
