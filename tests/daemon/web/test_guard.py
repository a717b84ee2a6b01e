"""The page's doors: tokens, redirects, absurd addresses, and pictures of nothing but what was judged."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from config.folders import made_folder
from daemon.heatmaps.heatmap_files import HeatmapFiles
from daemon.web.guard import Guard, Rules, WrongTokens
from tests.daemon.web import test_web
from tests.daemon.web.test_web import Server
from tests.support.daemons import bt_daemon
from trainer.images.decode import Limits, PictureError
from trainer.images.read import JudgedFile, read_judged
from trainer.model.identity import default_weights
from trainer.model.prediction import Prediction, Verdict
from trainer.model.weights import read_spec

hostile = test_web.hostile
TOKEN = "a token of more than sixteen"


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def asked(guard: Guard, path: str, query: str = "", client: str = "10.0.0.9", **headers: str) -> Any:
    """Return status and headers of what a guard with a token answers."""
    answers: list[Any] = []

    async def send(message: Any) -> None:
        answers.append(message)

    scope = {
        "type": "http", "method": "GET", "path": path, "query_string": query.encode(),
        "client": (client, 1), "headers": [(b"host", b"here"), *((name.encode(), value.encode())
                                                               for name, value in headers.items())],
    }  # fmt: skip
    asyncio.run(guard(scope, None, send))  # type: ignore[arg-type]
    return answers[0]["status"], {name.decode(): value.decode() for name, value in answers[0]["headers"]}


def guarded() -> Guard:
    return Guard(_nothing, Rules(frozenset({"here"}), TOKEN))


@pytest.mark.slow
@pytest.mark.defects(18)
@pytest.mark.parametrize(
    ("token", "words"), [("", "is empty"), ("a", "has 1 characters"), ("x" * 15, "has 15")]
)
@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_token_that_is_empty_or_short_is_refused_in_one_line(
    tmp_path: Path, token: str, words: str, host: str
) -> None:
    done = bt_daemon("web", "--host", host, "--port", "0", "--token", token, "--db", tmp_path / "x.db")

    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"the token {words}" in done.stderr


@pytest.mark.defects(18)
@pytest.mark.parametrize(
    "path", ["//evil.com/", "/\\evil.com/", "///evil.com", "/\\/evil.com", "//evil.com\r\nx: y/"]
)
def test_right_token_never_leads_to_another_host(path: str) -> None:
    status, headers = asked(guarded(), path, f"token={quote(TOKEN)}&n=5")

    assert status == 303
    assert headers["location"].startswith("/evil.com")
    assert headers["location"].endswith("?n=5")


@pytest.mark.defects(18)
def test_many_wrong_tokens_lock_their_address_out_and_nobody_else() -> None:
    guard = guarded()
    right = f"token={quote(TOKEN)}"

    wrong = [asked(guard, "/", f"token=guess-{number}-of-a-token")[0] for number in range(12)]

    assert wrong == [401] * 10 + [429] * 2
    assert asked(guard, "/", right)[0] == 429
    assert asked(guard, "/", right, client="10.0.0.10")[0] == 303


@pytest.mark.defects(18)
def test_requests_without_a_token_lock_nobody_out() -> None:
    guard = guarded()

    assert {asked(guard, "/")[0] for _ in range(50)} == {401}
    assert asked(guard, "/", authorization=f"Bearer {TOKEN}")[0] == 200


@pytest.mark.defects(18)
def test_lock_ends_after_a_minute_and_remembers_a_bounded_number_of_addresses() -> None:
    now = [0.0]
    wrong = WrongTokens(lambda: now[0])
    for _ in range(10):
        wrong.count("one")
    assert wrong.locked("one")

    now[0] = 60.0

    assert not wrong.locked("one")
    for number in range(20_000):
        wrong.count(str(number))
    assert len(wrong._times) == 10_000


@pytest.mark.defects(22)
@pytest.mark.parametrize(
    "query",
    ["n=0000000019999999999", "n=" + "9" * 5_000, "n=-1", "n=\u0665", "n=1%00", "n=501", "n=0", "n=1e3",
     "since=@" + "9" * 400, "min_confidence=nan", "min_score=1e400", "sort=x", "after=%00", "after=e30",
     "after=" + "A" * 3_000, "after=W05hTiwgMV0", "after=WzAuNSwgOTk5OTk5OTk5OTk5OTk5OTk5OTk5OV0"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/results", "/api/results"])
def test_absurd_question_is_refused_with_all_headers(hostile: Server, path: str, query: str) -> None:
    answer = hostile.ask(f"{path}?{quote(query, safe='=%&')}")

    assert answer.status == 400
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.defects(22)
@pytest.mark.parametrize("number", ["9" * 18, "9" * 19, "9" * 5_000, "-1", "%D9%A5", "1%00"])
@pytest.mark.parametrize("path", ["/image/{}", "/image/{}/plain.webp", "/api/image/{}"])
def test_image_of_an_absurd_number_is_not_there_with_all_headers(
    hostile: Server,
    path: str,
    number: str,
) -> None:
    answer = hostile.ask(path.format(number))

    assert answer.status == 404
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.defects(22)
def test_fault_of_ours_is_answered_with_all_headers() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        from starlette.applications import Starlette
        from starlette.routing import Route

        def fails(request: Any) -> Any:
            raise ZeroDivisionError

        await Starlette(routes=[Route("/", fails)])(scope, receive, send)

    answers: list[Any] = []

    async def send(message: Any) -> None:
        answers.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "query_string": b"",
        "headers": [(b"host", b"here")],
    }
    with pytest.raises(ZeroDivisionError):  # for the log
        asyncio.run(Guard(broken, Rules(frozenset({"here"}), None))(scope, None, send))  # type: ignore[arg-type]

    assert answers[0]["status"] == 500
    assert b"content-security-policy" in dict(answers[0]["headers"])


@pytest.fixture
def judged_file(tmp_path: Path) -> Path:
    image = tmp_path / "inbox" / "a" / "x.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"judged")
    return image


def _judged(image: Path, content: bytes | None = b"judged") -> JudgedFile:
    sha256 = None if content is None else hashlib.sha256(content).digest()
    return JudgedFile(os.fsencode(image.parent.parent), b"a/x.png", sha256)


@pytest.mark.defects(20)
def test_judged_file_is_read_while_it_is_the_one(judged_file: Path) -> None:
    assert read_judged(_judged(judged_file), Limits()).data == b"judged"


@pytest.mark.defects(20)
def test_picture_from_a_folder_swapped_for_a_link_is_refused(judged_file: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    judged_file.parent.rename(outside)  # the same bytes even
    judged_file.parent.symlink_to(outside)

    with pytest.raises(PictureError):
        read_judged(_judged(judged_file), Limits())


@pytest.mark.defects(20)
@pytest.mark.parametrize("content", [None, b"other bytes"])
def test_picture_of_what_was_not_judged_is_refused(judged_file: Path, content: bytes | None) -> None:
    with pytest.raises(PictureError, match=r"no hash|has changed"):
        read_judged(_judged(judged_file, content), Limits())


@pytest.mark.defects(20)
@pytest.mark.parametrize("path", [b"../outside/x.png", b"a/../../outside/x.png"])
def test_picture_outside_of_the_inbox_is_refused(judged_file: Path, tmp_path: Path, path: bytes) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.png").write_bytes(b"judged")
    found = _judged(judged_file)

    with pytest.raises(PictureError):
        read_judged(JudgedFile(found.root, path, found.sha256), Limits())


@pytest.mark.defects(23)
def test_heatmaps_are_for_the_owner_alone(tmp_path: Path) -> None:
    spec = read_spec(default_weights())
    folder = tmp_path / "maps"
    files = HeatmapFiles(str(made_folder(folder, "--heatmaps")), spec, "ab" * 32)
    prediction = Prediction(Verdict.OK, spec.classes[0], 0.9, (0.9, 0.1), None)

    files.write(7, np.zeros((8, 8), dtype=np.uint8), np.zeros((2, 2, 2), dtype=np.float32), prediction)

    modes = [
        stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "0000", folder / "0000" / "7.jpg")
    ]
    assert modes == [0o700, 0o700, 0o600]
    assert [path.name for path in (folder / "0000").iterdir()] == ["7.jpg"]
