"""Downloads of the results page: what the command writes, and nothing left behind by who goes away."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from starlette.types import Message

from daemon.web.finding.downloads import Download, Downloads, TooManyDownloadsError
from storage.database import open_reader
from storage.query import Query
from tests.daemon.web.test_web import Server, _served, _stopped
from tests.support.databases import DatabaseMaker, Target, is_server, raw
from tests.support.random_results import random_database
from tests.support.stored_results import Store, judged, run_piped

pytestmark = [pytest.mark.slow, pytest.mark.databases]


@pytest.fixture(scope="module")
def database(make_module_database: DatabaseMaker, tmp_path_factory: pytest.TempPathFactory) -> Target:
    """Return a database with formulas for names, and thousands of rows more."""
    folder = tmp_path_factory.mktemp("downloads")
    found = random_database(folder, 3, database=make_module_database())
    store = Store(found, folder / "one")
    store.put([(b'=HYPERLINK("http://evil.example")', judged()), (b"@SUM(1).png", judged("no", 0.7))])
    store.put([(b"many/%06d.png" % number, judged()) for number in range(1_500)])
    return found


@pytest.fixture(scope="module")
def server(database: Target, engine_cache: Path) -> Iterator[Server]:
    """Serve it."""
    running = _served(database, engine_cache)
    yield running
    assert _stopped(running) == 0


@pytest.mark.parametrize("form", ["csv", "json", "ndjson"])
@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("", []),
        ("class=yes&sort=score", ["--class", "yes", "--sort", "score"]),
        ("q=im&sort=file&order=reverse", ["-q", "im", "--sort", "file", "--reverse"]),
        ("status=error", ["--status", "error"]),
        ("review=reviewed", ["--review", "reviewed"]),
        ("q=nothing+like+this", ["-q", "nothing like this"]),
    ],
)
def test_a_download_is_what_the_command_writes(
    server: Server, database: Target, form: str, words: str, options: list[str]
) -> None:
    format_name = {"ndjson": "jsonl"}.get(form, form)
    wanted = run_piped("results", "--db", str(database), "--utc", "--format", format_name, *options)
    answer = server.ask(f"/results.{form}?{words}")

    assert answer.status == 200
    assert answer.body.decode() == wanted.stdout
    assert answer.headers["content-disposition"].startswith('attachment; filename="results-')


def test_formulas_are_quoted(server: Server) -> None:
    text = server.ask("/results.csv?q=SUM").text

    assert "/@SUM(1).png" in text
    assert ",=" not in text


@pytest.mark.parametrize("path", ["/results.csv?since=blah", "/results.exe", "/results.json?n=0"])
def test_nonsense_starts_no_download(server: Server, path: str) -> None:
    assert server.ask(path).status in {400, 404}


def test_who_goes_away_half_way_frees_its_reader(server: Server, database: Target) -> None:
    place = urlsplit(server.address)
    for _ in range(6):  # more than run at one moment
        door = socket.create_connection((str(place.hostname), place.port), timeout=30)
        door.sendall(f"GET /results.json HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())
        assert door.recv(100).startswith(b"HTTP/1.1 200")
        door.close()
        _wait_until_closed(server, database)

    assert server.ask("/results.csv").status == 200


def test_no_more_than_some_run_at_one_moment(database: Target) -> None:
    downloads = Downloads(most=2)

    def started() -> Download:
        return downloads.start(lambda: closing(open_reader(database)), Query(), "csv", UTC)

    first, _ = started(), started()
    with pytest.raises(TooManyDownloadsError, match="too many downloads"):
        started()
    sent = _sent_by(first)

    assert sent.startswith(b"id,")
    end = time.monotonic() + 20
    while time.monotonic() < end:  # its place is free once its thread has ended
        try:
            started()
        except TooManyDownloadsError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError("a download that ended keeps its place")


def _sent_by(download: Download) -> bytes:
    """Return what a download sends, to its end."""
    body: list[bytes] = []

    async def send(message: Message) -> None:
        body.append(message.get("body", b""))

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def whole() -> None:
        await download({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send)

    asyncio.run(whole())
    return b"".join(body)


def _wait_until_closed(server: Server, database: Target) -> None:
    end = time.monotonic() + 20
    process = psutil.Process(server.process.pid)
    while _is_open(process, database):
        assert time.monotonic() < end, "the database is still open"
        time.sleep(0.05)


def _is_open(process: psutil.Process, database: Target) -> bool:
    if is_server(database):
        # Of the sessions that are called after the process.
        named = f"application_name LIKE 'bt-daemon {process.pid} %' AND datname = current_database()"
        return raw(database, f"SELECT count(*) FROM pg_stat_activity WHERE {named}") != [(0,)]
    return any(one.path == str(database) for one in process.open_files())
