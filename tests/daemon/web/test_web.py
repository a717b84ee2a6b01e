"""`bt-daemon web`: the real server, asked as browsers, programs and strangers ask."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from daemon.web.address import decode_key, encode_key
from daemon.web.guard import is_loopback
from storage.query import Sort
from storage.records import Failed, FailureKind, Status
from tests.support.browser import needs_browser
from tests.support.databases import DatabaseMaker, Target
from tests.support.devtools import browser
from tests.support.hostile_names import HOSTILE_NAMES
from tests.support.stored_results import Store, judged
from trainer.images.phantom import phantom

pytestmark = pytest.mark.databases


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.body)
        return found


@dataclass(frozen=True)
class Server:
    """A running `bt-daemon web`."""

    process: subprocess.Popen[str]
    address: str

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        place = urlsplit(self.address)
        assert place.hostname is not None
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=30)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        told = {name.lower(): value for name, value in answer.getheaders()}
        found = Answer(answer.status, told, answer.read())
        connection.close()
        return found


def _served(database: Target, cache: Path, *options: str) -> Server:
    process = subprocess.Popen(
        [sys.executable, "-m", "daemon.cli", "web", "--port", "0", "--db", str(database), "--utc", *options],
        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
        env={**os.environ, "BT_CACHE": str(cache)},
    )  # fmt: skip
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.search(r"http://\S+", line)
    assert found, line
    return Server(process, found[0])


def _stopped(server: Server) -> int:
    server.process.send_signal(signal.SIGINT)
    server.process.communicate(timeout=20)
    return server.process.returncode


@pytest.fixture(scope="module")
def hostile(
    tmp_path_factory: pytest.TempPathFactory, make_module_database: DatabaseMaker, engine_cache: Path
) -> Iterator[Server]:
    """Five hundred hostile names and some errors."""
    folder = tmp_path_factory.mktemp("web")
    (folder / "inbox").mkdir()
    store = Store(make_module_database(), folder / "inbox")
    statuses = (Status.OK, Status.OK, Status.UNCERTAIN)
    store.put(
        [
            (name, judged(("yes", "no")[number % 2], 0.6 + number % 40 / 100, statuses[number % 3]))
            for number, name in enumerate(HOSTILE_NAMES)
        ]
    )
    store.put([(b"bad %d" % n, Failed(FailureKind.PERMANENT, f"<b>cause {n % 2}</b>")) for n in range(60)])
    server = _served(store.path, engine_cache)
    yield server
    assert _stopped(server) == 0  # Ctrl-C is how it is meant to end


def _pages(server: Server, path: str) -> Iterator[Answer]:
    following: str | None = path
    while following:
        answer = server.ask(following)
        assert answer.status == 200
        yield answer
        found = re.search(r'rel="next" href="([^"]+)"', answer.text)
        following = found[1].replace("&amp;", "&") if found else None


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/", "/results", "/image/1", "/errors", "/model"])
def test_every_page_says_what_it_is_and_lets_nothing_foreign_in(hostile: Server, path: str) -> None:
    answer = hostile.ask(path)

    assert answer.status == 200
    assert "Not a medical device" in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"""(?:src|href|action)=["'](?!/|#)""", answer.text)  # no address but our own
    assert "\u202e" not in answer.text


@pytest.mark.slow
@pytest.mark.parametrize("sort", list(Sort))
@pytest.mark.parametrize("order", ["", "reverse"])
def test_paging_shows_every_result_once(hostile: Server, sort: Sort, order: str) -> None:
    ids = [
        int(found)
        for page in _pages(hostile, f"/results?sort={sort.value}&order={order}&n=97")
        for found in re.findall(r'<a href="/image/(\d+)[?"]', page.text)
    ]

    assert sorted(ids) == list(range(1, 561))


@pytest.mark.slow
@pytest.mark.parametrize("sort", [Sort.TIME, Sort.FILE, Sort.CLASS])
def test_what_no_page_asks_is_answered_or_refused(hostile: Server, sort: Sort) -> None:
    """Characters that no text may have, numbers that no column holds, keys of another order."""
    keys = [encode_key((value, 5)) for value in (1, 0.5, "x", "\0", b"\xff\0", -1, float("inf"), 10**30)]
    asked = [
        *(f"after={quote(key)}" for key in keys),
        *(f"{name}={text}" for name in ("q", "model", "class", "inbox") for text in ("%00", "a%00b", "%ff")),
        *(f"series={number}" for number in (-1, 1 << 63, 10**30)),
        *(f"min_score={number}" for number in ("nan", "inf", "1e-320")),
        "since=9999-12-31", "since=0001-01-01", f"q={'x' * 3_000}",
    ]  # fmt: skip

    answers = [hostile.ask(f"/results?sort={sort.value}&{one}").status for one in asked]

    assert set(answers) <= {200, 400, 404}, dict(zip(asked, answers, strict=True))


@pytest.mark.slow
def test_errors_are_paged_too(hostile: Server) -> None:
    ids = [found for page in _pages(hostile, "/errors") for found in re.findall(r"/image/(\d+)", page.text)]

    assert len(ids) == len(set(ids)) == 60
    assert "&lt;b&gt;cause 1&lt;/b&gt;" in hostile.ask("/errors").text


@pytest.mark.slow
def test_filters_narrow_down_what_is_shown_and_counted(hostile: Server) -> None:
    page = hostile.ask("/results?class=yes&status=uncertain").text
    counts = hostile.ask("/api/counts?class=yes&status=uncertain").json()["counts"]

    assert isinstance(counts, list)
    assert f"{counts[0]['count']} results" in page
    assert 'class="tag is-ok"' not in page


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/results?since=blah", 400), ("/results?after=zzz", 400), ("/results?n=0", 400),
        ("/results?min_confidence=nan", 400), ("/results?status=maybe", 400), ("/nothing", 404),
        ("/image/77777", 404), ("/image/99999999999999999999999", 404), ("/image/x", 404),
        ("/static/..%2f..%2fcli.py", 404), ("/image/1/plain.webp", 404),
    ],
)  # fmt: skip
def test_nonsense_is_answered_in_words(hostile: Server, path: str, status: int) -> None:
    answer = hostile.ask(path)

    assert answer.status == status
    assert "Traceback" not in answer.text


@pytest.mark.slow
def test_strangers_are_not_answered(hostile: Server) -> None:
    assert hostile.ask("/", Host="evil.example").status == 421
    assert hostile.ask("/", Host="127.0.0.1.evil.example:80").status == 421
    assert hostile.ask("/", Host="").status == 421
    assert hostile.ask("/", method="POST").status == 405
    assert hostile.ask("/api/results", method="DELETE").status == 405
    assert hostile.ask("/", Host="localhost:1").status == 200


@pytest.mark.slow
def test_json_gives_back_the_bytes_of_every_name(hostile: Server) -> None:
    names: set[bytes] = set()
    following: object = "/api/results?n=200&status=ok"
    while isinstance(following, str):
        told = hostile.ask(following).json()
        assert "medical device" in str(told["notice"])
        assert isinstance(told["results"], list)
        names |= {os.fsencode(row["path"]) for row in told["results"]}
        following = told["next"]

    assert names == {name for number, name in enumerate(HOSTILE_NAMES) if number % 3 != 2}


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("path", ["/?since=all", "/results?n=500", "/errors", "/image/4"])
@pytest.mark.databases("sqlite")
def test_hostile_names_execute_nothing_in_a_browser(hostile: Server, path: str) -> None:
    with browser() as tab:
        tab.open(hostile.address.rstrip("/") + path)
        # An alert would block the page, so that this is never answered.
        document = tab.run(
            "new Promise(done => setTimeout(done, 500)).then(() => document.documentElement.outerHTML)"
        )

    assert not re.search(r"<(script|img|b)[^>]*(alert|onerror)", document)
    # pictures of files that are not there are the only thing it may complain of
    assert not [line for line in tab.console if "404" not in line]


@pytest.mark.slow
@needs_browser
def test_new_results_appear_by_themselves(tmp_path: Path, engine_cache: Path) -> None:
    (tmp_path / "inbox").mkdir()
    phantom(1, lesion=True).save(tmp_path / "inbox" / "first.png")
    watch = [sys.executable, "-m", "daemon.cli", "watch", str(tmp_path / "inbox"), "--once", "--settle", "0s",
             "--db", str(tmp_path / "x.db"), "--cache", str(engine_cache), "-q"]  # fmt: skip
    subprocess.run(watch, check=True)
    server = _served(tmp_path / "x.db", engine_cache)
    try:
        # Minutes of the page's own time, some seconds of ours; meanwhile a second image is judged.
        browser = subprocess.Popen(
            [sys.executable, "-c", "import sys; from tests.support.browser import rendered;"
             "sys.stdout.write(rendered(sys.argv[1], milliseconds=150_000)[0])", server.address],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        phantom(2, lesion=False).save(tmp_path / "inbox" / "second.png")
        subprocess.run(watch, check=True)
        document, _ = browser.communicate(timeout=120)
        picture = server.ask("/image/1/heatmap.webp")
    finally:
        assert _stopped(server) == 0

    assert "second.png" in document
    assert picture.headers["content-type"] == "image/webp"
    assert picture.body[:4] == b"RIFF"


@pytest.mark.slow
def test_beyond_this_machine_a_token_is_asked_for(tmp_path: Path, engine_cache: Path) -> None:
    store = Store(tmp_path / "x.db", tmp_path)
    store.put([(b"a.png", judged())])
    server = _served(store.path, engine_cache, "--host", "0.0.0.0")
    place = urlsplit(server.address)
    asked = Server(server.process, f"http://127.0.0.1:{place.port}/")
    token = place.query.removeprefix("token=")
    try:
        refused = [asked.ask(path).status for path in ("/", "/api/results", "/static/style.css", "/?token=x")]
        let_in = asked.ask(f"/results?token={token}&n=5")
        cookie = let_in.headers["set-cookie"]
        after = asked.ask(let_in.headers["location"], Cookie=cookie.partition(";")[0])
        program = asked.ask("/api/results", Authorization=f"Bearer {token}")
    finally:
        assert _stopped(server) == 0

    assert refused == [401] * 4
    assert let_in.status == 303
    assert let_in.headers["location"] == "/results?n=5"
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert after.status == program.status == 200


@pytest.mark.slow
def test_before_the_first_result_the_page_says_what_to_do(tmp_path: Path, engine_cache: Path) -> None:
    server = _served(tmp_path / "none.db", engine_cache)
    try:
        page, program = server.ask("/"), server.ask("/api/status")
    finally:
        assert _stopped(server) == 0

    assert page.status == program.status == 503
    assert "bt-daemon watch" in page.text
    assert not (tmp_path / "none.db").exists()  # reading makes nothing


def test_a_port_in_use_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    from daemon.cli import main

    with socket.create_server(("127.0.0.1", 0)) as taken:
        code = main(["web", "--port", str(taken.getsockname()[1]), "--db", str(tmp_path / "x.db")])

    assert code == 1
    assert "give another --port" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "sort"),
    [
        ((5, 7), Sort.TIME),
        ((0.25, 7), Sort.CONFIDENCE),
        ((b"\xff/a", 7), Sort.FILE),
        (("yes", 7), Sort.CLASS),
    ],
)
def test_a_pages_key_survives_the_address(key: tuple[int | float | str | bytes, int], sort: Sort) -> None:
    assert decode_key(encode_key(key), sort) == key


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("10.0.0.1", False)],
)
def test_which_addresses_stay_on_this_machine(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
