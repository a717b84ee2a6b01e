"""The page's one way to write: who may, from where, how much, and that asking twice is asking once."""

from __future__ import annotations

import http.client
import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from storage.database import open_reader
from storage.reviews.answers import LONGEST_NOTE
from storage.reviews.review_rows import review_rows
from tests.daemon.web.test_web import Answer, Server, _served, _stopped
from tests.support.reviews import SCORING, open_scored
from tests.support.stored_results import Program

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
TOKEN = "a-token-of-more-than-sixteen"
IMAGES = 60


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Sixty uncertain images."""
    open_scored(tmp_path / "x.db", [0.55 + number / 1000 for number in range(IMAGES)]).close()
    return tmp_path / "x.db"


@pytest.fixture
def server(database: Path, engine_cache: Path) -> Iterator[Server]:
    server = _served(database, engine_cache, "--write", "--token", TOKEN)
    yield server
    _stopped(server)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database in which nothing is ever answered: of the tests whose every request is refused."""
    found = tmp_path_factory.mktemp("untouched") / "x.db"
    open_scored(found, [0.55 + number / 1000 for number in range(IMAGES)]).close()
    return found


@pytest.fixture(scope="module")
def refusing(untouched: Path, engine_cache: Path) -> Iterator[Server]:
    """Serve it once: a refused request changes nothing that another finds, and a start takes longest."""
    server = _served(untouched, engine_cache, "--write", "--token", TOKEN)
    yield server
    assert _stopped(server) == 0


def _answer(file_id: int = 1, **changes: object) -> dict[str, object]:
    return {
        "request": str(uuid.uuid4()), "id": file_id, "model": SCORING.weights_sha256, "answer": "class",
        "class": "tumour", "origin": "uncertain", "reviewer": "Ann", **changes,
    }  # fmt: skip


def _post(server: Server, path: str, body: object, **headers: str) -> Answer:
    """Send a request as a page of the server does; headers given as None are left out."""
    place = urlsplit(server.address)
    assert place.hostname is not None
    changed = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {
        "cookie": f"bt_token={TOKEN}", "origin": f"http://{place.netloc}", "sec-fetch-site": "same-origin",
        "content-type": "application/json", **changed,
    }  # fmt: skip
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, data, {name: value for name, value in sent.items() if value})
    answer = connection.getresponse()
    found = Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    connection.close()
    return found


def _standing(database: Path) -> list[tuple[int, str, str | None, str]]:
    with closing(open_reader(database)) as connection:
        return [(one.file_id, one.reviewer, one.label, one.note) for one in review_rows(connection)]


def test_an_answer_is_stored_once_however_often_it_is_sent(server: Server, database: Path) -> None:
    body = _answer(note="odd")
    first, again = _post(server, "/api/review", body), _post(server, "/api/review", body)

    assert (first.status, first.json()["new"]) == (200, True)
    assert (again.status, again.json()["new"]) == (200, False)
    assert _standing(database) == [(1, "Ann", "tumour", "odd")]


def test_a_request_replayed_after_it_was_taken_back_does_not_return(server: Server, database: Path) -> None:
    body = _answer()
    _post(server, "/api/review", body)
    taken = _post(server, "/api/review/undo", {"request": body["request"], "reviewer": "Ann"})
    twice = _post(server, "/api/review/undo", {"request": body["request"], "reviewer": "Ann"})
    _post(server, "/api/review", body)

    assert (taken.json(), twice.json()) == ({"withdrawn": True}, {"withdrawn": False})
    assert _standing(database) == []


def test_nobody_takes_back_what_another_said(server: Server, database: Path) -> None:
    body = _answer()
    _post(server, "/api/review", body)

    answer = _post(server, "/api/review/undo", {"request": body["request"], "reviewer": "Bob"})

    assert answer.json() == {"withdrawn": False}
    assert len(_standing(database)) == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"cookie": ""}, 401),
        ({"cookie": "bt_token=wrong-wrong-wrong-wrong"}, 401),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),  # a cookie alone says nothing of the page that sends it
        ({"sec_fetch_site": "same-site"}, 403),
        ({"sec_fetch_site": "cross-site", "authorization": f"Bearer {TOKEN}"}, 403),
        ({"host": "evil.example"}, 421),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_strangers_write_nothing(
    refusing: Server, untouched: Path, headers: dict[str, str], status: int
) -> None:
    assert _post(refusing, "/api/review", _answer(), **headers).status == status
    assert _standing(untouched) == []


def test_a_token_in_the_address_is_none_for_writing(refusing: Server, untouched: Path) -> None:
    assert _post(refusing, f"/api/review?token={TOKEN}", _answer(), cookie="").status == 401
    assert _standing(untouched) == []


def test_a_program_writes_with_the_token_in_a_header(server: Server, database: Path) -> None:
    headers = {"cookie": "", "origin": "", "sec_fetch_site": "", "authorization": f"Bearer {TOKEN}"}

    assert _post(server, "/api/review", _answer(), **headers).status == 200
    assert len(_standing(database)) == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_no_other_method_writes(refusing: Server, method: str) -> None:
    answer = refusing.ask("/api/review", method, cookie=f"bt_token={TOKEN}")

    assert answer.status == 405


@pytest.mark.parametrize(
    "path", ["/", "/results", "/api/results", "/api/review/next", "/review", "/api/reviews"]
)
def test_nothing_else_can_be_written_to(refusing: Server, path: str) -> None:
    assert _post(refusing, path, _answer()).status == 405


def test_without_write_nothing_can_be_written(database: Path, engine_cache: Path) -> None:
    server = _served(database, engine_cache, "--token", TOKEN)
    try:
        answer = _post(server, "/api/review", _answer())
        page = server.ask("/review", cookie=f"bt_token={TOKEN}")
    finally:
        _stopped(server)

    assert answer.status == 405
    assert "bt-daemon web --write" in page.text
    assert _standing(database) == []


def test_writing_needs_a_token_on_this_machine_too(database: Path, engine_cache: Path) -> None:
    server = _served(database, engine_cache, "--write")
    try:
        assert "?token=" in server.address
        assert server.ask("/review").status == 401
    finally:
        _stopped(server)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class": "elephant"}, "has no class 'elephant'"),
        ({"id": 10**6}, "has not judged file 1000000"),
        ({"id": 0}, "cannot be read"),
        ({"id": 10**30}, "cannot be read"),
        ({"id": "1"}, "cannot be read"),
        ({"model": "ff" * 32}, "has not judged"),
        ({"model": "../../x"}, "cannot be read"),
        ({"answer": "delete"}, "cannot be read"),
        ({"origin": "imported"}, "cannot be read"),
        ({"request": "1"}, "cannot be read"),
        ({"reviewer": ""}, "cannot be read"),
        ({"reviewer": "Ann\x1b[31m"}, "cannot be seen"),
        ({"reviewer": "A\u202enn"}, "cannot be seen"),
        ({"reviewer": "x" * 101}, "cannot be read"),
        ({"note": "x" * (LONGEST_NOTE + 1)}, "cannot be read"),
        ({"more": 1}, "cannot be read"),
        ({"answer": "skip"}, "a class is said with the answer"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    refusing: Server, untouched: Path, changes: dict[str, Any], words: str
) -> None:
    answer = _post(refusing, "/api/review", _answer(**changes))

    assert answer.status == 400
    assert words in str(answer.json()["error"])
    assert _standing(untouched) == []


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"null", b'{"a":' * 10_000])
def test_a_body_that_is_no_answer_is_refused(refusing: Server, untouched: Path, body: bytes) -> None:
    assert _post(refusing, "/api/review", body).status == 400
    assert _standing(untouched) == []


def test_a_note_of_64_k_is_kept_and_a_body_beyond_all_notes_is_not_read(
    server: Server, database: Path
) -> None:
    note = "\U0001f9e0<script>" + "x" * (LONGEST_NOTE - 9)
    kept = _post(server, "/api/review", _answer(note=note))
    beyond = _post(server, "/api/review", b"x", content_length=str(2 << 20))

    assert (kept.status, beyond.status) == (200, 413)
    assert _standing(database)[0][3] == note


def test_two_reviewers_at_once_are_asked_about_different_images(server: Server, database: Path) -> None:
    done: dict[str, list[int]] = {"Ann": [], "Bob": []}

    def work(reviewer: str) -> None:
        while True:
            told = server.ask(
                f"/api/review/next?reviewer={reviewer}&n=3&queue=uncertain", cookie=f"bt_token={TOKEN}"
            ).json()["candidates"]
            assert isinstance(told, list)
            if not told:
                return
            for one in told:
                sent = _answer(one["id"], reviewer=reviewer, origin=one["origin"])
                assert _post(server, "/api/review", sent).json()["new"] is True
                done[reviewer].append(one["id"])

    threads = [threading.Thread(target=work, args=(name,)) for name in done]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)

    assert sorted(done["Ann"] + done["Bob"]) == list(range(1, IMAGES + 1))
    assert min(len(ids) for ids in done.values()) > 0
    assert sorted(one[0] for one in _standing(database)) == list(range(1, IMAGES + 1))


def test_a_blind_sample_is_said_to_be_drawn_at_random(server: Server) -> None:
    asked = "/api/review/next?reviewer=Ann&n=2&queue=random"
    told = server.ask(asked, cookie=f"bt_token={TOKEN}").json()["candidates"]
    assert isinstance(told, list)

    assert [one["origin"] for one in told] == ["random", "random"]
    assert told[0]["classes"] == [
        {"name": "no_tumour", "meaning": "no_tumour"}, {"name": "tumour", "meaning": "tumour"}
    ]  # fmt: skip


@pytest.mark.parametrize(
    "query", ["reviewer=&n=2", "reviewer=A&n=0", "reviewer=A&n=999", "reviewer=A&queue=x", "reviewer=A&id=x",
              "reviewer=A&without=a", "reviewer=A%00&n=1", "reviewer=A&id=1e9"],
)  # fmt: skip
def test_questions_that_cannot_be_meant_are_refused(refusing: Server, query: str) -> None:
    assert refusing.ask(f"/api/review/next?{query}", cookie=f"bt_token={TOKEN}").status == 400


def test_what_is_asked_for_as_json_tells_what_people_said_as_the_command_does(
    server: Server, database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _post(server, "/api/review", _answer(7)).status == 200

    told: Any = server.ask("/api/results?n=500", cookie=f"bt_token={TOKEN}").json()["results"]
    command = json.loads(Program(database, capsys)("results", "--format", "json").out)

    assert {row["id"]: (row["reviewed"], row["reviewer"]) for row in told if row["reviewed"]} == {
        7: ("tumour", "Ann")
    }
    assert sorted(told, key=lambda row: row["id"]) == sorted(command, key=lambda row: row["id"])
