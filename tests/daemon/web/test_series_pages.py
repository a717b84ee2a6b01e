"""Series on the page, in its JSON and in the report."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.cli import main
from storage.records import Outcome, PathMembership
from tests.daemon.web.test_web import Server, _pages, _served, _stopped
from tests.support.browser import file_address, needs_browser, rendered
from tests.support.databases import DatabaseMaker, Target
from tests.support.ledgers import Store
from tests.support.series import OTHER_SERIES_MODEL, keys, open_series_store, slice_of

pytestmark = pytest.mark.databases

HOSTILE = "<img src=x onerror=alert(1)>\u202e"


def _fill(store: Store) -> None:
    """Twelve series of six patients, the last of them rejected; a thirteenth with names that mean harm."""
    for number in range(12):
        for place in range(3):
            store.clock.advance(60)
            [entry] = store.add(b"%d-%d.dcm" % (number, place))
            score = 0.9 if number % 3 == 1 else 0.1 + place / 10
            store.judge([entry], slice_of(keys(number, -place), score, rejected=number == 11))
    [entry] = store.add(b"0-again.dcm")
    store.ledger.record(_concluded(entry.file_id), store.ledger.model_id(OTHER_SERIES_MODEL))


def _concluded(file_id: int) -> list[Outcome]:
    return [Outcome(file_id, slice_of(keys(0, 5.0), 0.99))]


@pytest.fixture(scope="module")
def database(make_module_database: DatabaseMaker) -> Target:
    database = make_module_database()
    store = open_series_store(database)
    _fill(store)
    store.close()
    store = open_series_store(database, lambda _: PathMembership(HOSTILE, HOSTILE, HOSTILE))
    store.clock.advance(9_000)
    store.judge(store.add(b"evil.png"), slice_of(None, 0.2))
    store.close()
    return database


@pytest.fixture(scope="module")
def server(database: Target, engine_cache: Path) -> Iterator[Server]:
    server = _served(database, engine_cache)
    yield server
    assert _stopped(server) == 0


def _ids(text: str) -> list[int]:
    return [int(found) for found in re.findall(r'<a href="/series/(\d+)\?', text)]


@pytest.mark.slow
def test_the_overview_begins_with_series(server: Server) -> None:
    page = server.ask("/?since=all").text

    assert page.index("<h2>Series</h2>") < page.index("<h2>Images</h2>")
    assert re.search(r"<dt>series</dt><dd>13</dd>", page)
    assert 'href="/series?since=all"' in page


@pytest.mark.slow
@pytest.mark.parametrize("sort", ["time", "score", "doubt", "file", "class", "status"])
def test_paging_shows_every_series_once(server: Server, sort: str) -> None:
    ids = [one for page in _pages(server, f"/series?sort={sort}&n=5") for one in _ids(page.text)]

    assert sorted(ids) == sorted([*range(1, 14), 1])  # two models judged the first


@pytest.mark.slow
def test_filters_narrow_down_what_is_listed_and_counted(server: Server) -> None:
    found = server.ask("/api/series?class=tumour&model=ab").json()

    assert found["total"] == 4
    assert len(_ids(server.ask("/series?class=tumour&model=ab").text)) == 4
    assert "4 series." in server.ask("/series?class=tumour&model=ab").text
    assert _ids(server.ask("/series?status=rejected").text) == [12]


@pytest.mark.slow
def test_a_patient_and_a_study_lead_to_their_series(server: Server) -> None:
    page = server.ask("/series?by=patient&model=ab").text
    of_one = set(_ids(server.ask("/series?patient=3").text))

    assert "7 patients." in page
    assert 'href="/series?patient=' in page
    assert of_one == {3, 4}
    assert _ids(server.ask("/series?study=3").text) == [3]


@pytest.mark.slow
def test_one_series_has_its_verdict_and_its_slices_in_their_order(server: Server) -> None:
    page = server.ask("/series/2").text
    found = server.ask("/api/series/2").json()["verdicts"]

    assert isinstance(found, list)
    assert [one["position"] for one in found[0]["slices_in_order"]] == [-2.0, -1.0, 0.0]
    assert "3 slices in 3 files" in page
    assert page.count('<rect class="is-found"') == 3
    assert re.findall(r'<li><a href="/image/(\d+)"', page) == ["6", "5", "4"]
    assert "complete: nothing has come for 60 s" in page


@pytest.mark.slow
def test_an_image_leads_to_its_series_and_back(server: Server) -> None:
    assert _ids(server.ask("/image/6").text) == [2]
    assert '<a href="/image/6"' in server.ask("/series/2").text


@pytest.mark.slow
def test_two_models_have_a_verdict_each(server: Server) -> None:
    page = server.ask("/series/1?model=cd").text

    assert "1 slice in 1 file" in page
    assert "also judged by" in page
    assert len(server.ask("/api/series/1").json()["verdicts"]) == 2  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/series?by=nobody", 400), ("/series?page=0", 400), ("/series?page=99999999999999999999", 400),
        ("/series?patient=x", 400), ("/api/series?by=image", 400), ("/series/99", 404),
        ("/api/series/99", 404), ("/series/1?model=zz", 404), ("/series?page=900", 200),
        ("/series?study=99", 200),
    ],
)  # fmt: skip
def test_nonsense_is_answered_in_words(server: Server, path: str, status: int) -> None:
    assert server.ask(path).status == status


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("path", ["/series", "/series?by=patient", "/series/13", "/series/2"])
@pytest.mark.databases("sqlite")
def test_hostile_names_execute_nothing(server: Server, path: str) -> None:
    document, console = rendered(server.address.rstrip("/") + path)

    assert "Not a medical device" in document
    assert "\u202e" not in document
    assert not re.search(r"<img[^>]*onerror", document)
    assert not [line for line in console.splitlines() if "404" not in line]


@pytest.mark.slow
@needs_browser
def test_the_report_begins_with_series(database: Target, tmp_path: Path) -> None:
    report = tmp_path / "r.html"
    assert main(["report", "-o", str(report), "--pictures", "0", "--db", str(database)]) == 0
    document, console = rendered(file_address(report))

    assert document.index("<h2>Every series</h2>") < document.index("Images in numbers")
    assert document.count('data-name="series"') == 14
    assert not re.search(r"<img[^>]*onerror", document)
    assert not console


@pytest.mark.slow
def test_nothing_but_pseudonyms_stands_for_identifiers(server: Server) -> None:
    page = server.ask("/series/2").text

    assert "Series 000000000000" in page  # the first digits of a keyed hash, here of a small number


def test_show_names_the_series_of_an_image(database: Target, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "6", "--db", str(database)]) == 0
    told = capsys.readouterr().out

    assert "its series" in told
    assert "3 slices in 3 files" in told
