"""Uploads through the real server: whole, within limits, over nothing, and out of nobody's hands but ours."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from storage.database import open_writer
from storage.ledger.heartbeat import Heartbeat
from storage.ledger.ledger import Ledger
from storage.records import Status
from tests.support.browser import needs_browser
from tests.support.devtools import browser
from tests.support.stored_results import START_US, Store, judged

TOKEN = "a-token-of-more-than-sixteen"
LIMIT = 100_000  # bytes
BYTES = b"\x89PNG" + bytes(range(256)) * 40


@dataclass(frozen=True)
class Door:
    """A running `bt-daemon web` and the inbox behind it."""

    process: subprocess.Popen[str]
    port: int
    inbox: Path

    def ask(
        self, path: str, body: bytes | Iterator[bytes] = BYTES, method: str = "POST", **more: str
    ) -> tuple[int, Any]:
        """Return status and JSON, or text where there is none."""
        headers = {
            "authorization": f"Bearer {TOKEN}",
            "content-type": "application/octet-stream",
            **{name.replace("_", "-"): value for name, value in more.items()},
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, {name: value for name, value in headers.items() if value})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, json.loads(text) if text.startswith("{") else text

    def send(self, name: str, body: bytes | Iterator[bytes] = BYTES) -> tuple[int, Any]:
        return self.ask(f"/api/upload?inbox=1&name={name}", body)

    def there(self) -> list[str]:
        return sorted(os.listdir(self.inbox))


def _opened(folder: Path, *options: str, max_bytes: int = LIMIT) -> Door:
    inbox = folder / "inbox"
    inbox.mkdir(exist_ok=True)
    store = Store(folder / "x.db", inbox)
    store.put([(b"known.png", judged("yes", 0.9, Status.OK))])
    told = {"inboxes": [{"path": str(inbox), "state": "watching"}]}
    with closing(open_writer(store.path)) as connection:
        Ledger(connection, store.clock).beat(Heartbeat("here", 1, START_US, START_US, None, told))
    process = subprocess.Popen(
        [sys.executable, "-m", "daemon.cli", "web", "--port", "0", "--db", store.path, "--token", TOKEN,
         *options],
        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
        env={**os.environ, "BT_MAX_BYTES": str(max_bytes), "BT_CACHE": str(folder / "cache")},
    )  # fmt: skip
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.search(r"http://\S+", line)
    assert found, line
    port = urlsplit(found[0]).port
    assert port is not None
    return Door(process, port, inbox)


def _closed(door: Door) -> None:
    door.process.send_signal(signal.SIGINT)
    door.process.communicate(timeout=30)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    opened = _opened(tmp_path_factory.mktemp("uploads"), "--write")
    yield opened
    _closed(opened)


@pytest.fixture
def door(server: Door) -> Door:
    for name in os.listdir(server.inbox):
        (server.inbox / name).unlink()
    return server


def _wait_for(door: Door, wanted: list[str]) -> None:
    until = time.monotonic() + 60
    while door.there() != wanted:
        assert time.monotonic() < until, door.there()
        time.sleep(0.05)


def test_a_file_lands_whole_under_its_name(door: Door) -> None:
    status, told = door.send("a%20head%20%C3%A9.png")

    assert (status, told["name"], told["new"], told["bytes"]) == (200, "a head é.png", True, len(BYTES))
    assert door.there() == ["a head é.png"]
    assert (door.inbox / "a head é.png").read_bytes() == BYTES
    assert told["mtime"] == str((door.inbox / "a head é.png").stat().st_mtime_ns)


def test_nothing_is_written_over_and_the_same_bytes_again_are_the_same_file(door: Door) -> None:
    (door.inbox / "link.png").symlink_to("/etc/passwd")
    names = [door.send(name, body)[1]["name"] for name, body in (
        ("x.nii.gz", b"one"), ("x.nii.gz", b"two"), ("x.nii.gz", b"one"), ("x.nii.gz", b"two"),
        ("link.png", b"root::0:0"),
    )]  # fmt: skip

    assert names == ["x.nii.gz", "x-1.nii.gz", "x.nii.gz", "x-1.nii.gz", "link-1.png"]
    assert (door.inbox / "x.nii.gz").read_bytes() == b"one"
    assert door.there() == ["link-1.png", "link.png", "x-1.nii.gz", "x.nii.gz"]
    assert (door.inbox / "link.png").is_symlink()


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x.png", "%2e%2e%2fx.png", "/etc/x.png", "a\\x.png", "a%5cx.png", "..%5c..%5cx.png",
     ".x.png", ".x.part", "x.png.part", "x.tmp", "x%00.png", "x%0a.png", "x%0d%0aset-cookie:%20a=b.png",
     "x%1b[2J.png", quote("x\u202egnp.exe"), "%20x.png", "x.png%20", "x" * 241, "x.json", "x.db", "README",
     quote("é" * 121)],
)  # fmt: skip
def test_names_that_lead_elsewhere_or_to_nothing_are_refused_in_one_line(door: Door, name: str) -> None:
    around = sorted(os.listdir(door.inbox.parent))

    status, told = door.send(name.replace(" ", "%20"))

    assert status in {400, 415}
    assert told["error"]
    assert "\n" not in told["error"] + told["hint"]
    assert (door.there(), sorted(os.listdir(door.inbox.parent))) == ([], around)


def test_a_name_that_is_encoded_twice_is_a_plain_name_in_the_inbox(door: Door) -> None:
    status, _ = door.send("%252e%252e%252fx.png")

    assert (status, door.there()) == (200, ["%2e%2e%2fx.png"])


def test_what_is_too_large_is_refused_before_and_while_it_comes(door: Door) -> None:
    exact, _ = door.send("exact.png", bytes(LIMIT))
    connection = socket.create_connection(("127.0.0.1", door.port), timeout=60)
    connection.sendall(_head("told.png", LIMIT + 1))  # and not one byte of it
    before = connection.recv(100)
    connection.close()
    while_reading, told = door.send("chunks.png", iter([bytes(LIMIT), b"x"]))

    assert exact == 200
    assert before.startswith(b"HTTP/1.1 413")
    assert (while_reading, door.there()) == (413, ["exact.png"])
    assert "100000 bytes" in told["error"]


def _head(name: str, length: int) -> bytes:
    lines = (
        f"POST /api/upload?inbox=1&name={name} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {TOKEN}",
        "Content-Type: application/octet-stream",
        f"Content-Length: {length}",
    )
    return "\r\n".join((*lines, "", "")).encode()


def test_what_is_broken_off_half_way_leaves_nothing(door: Door) -> None:
    connection = socket.create_connection(("127.0.0.1", door.port), timeout=60)
    connection.sendall(_head("half.png", 80_000) + bytes(40_000))
    until = time.monotonic() + 60
    while not (parts := door.there()):
        assert time.monotonic() < until
        time.sleep(0.02)
    connection.close()

    assert re.fullmatch(r"\.bt-upload-[0-9a-f]{32}\.part", parts[0])
    _wait_for(door, [])


def test_an_empty_file_is_refused(door: Door) -> None:
    assert (door.send("empty.png", b"")[0], door.there()) == (400, [])


def test_inboxes_that_nobody_watches_are_none(door: Door) -> None:
    listed = door.ask("/api/upload/inboxes", b"", "GET")
    elsewhere = [
        door.ask(f"/api/upload?inbox={inbox}&name=x.png")[0] for inbox in ("2", "0", "-1", "", "9" * 99)
    ]

    assert listed == (200, {"inboxes": [{"id": 1, "name": str(door.inbox)}], "most_bytes": LIMIT})
    assert elsewhere == [404, 404, 400, 400, 400]
    assert door.there() == []


@pytest.mark.parametrize(
    ("wanted", "headers"),
    [
        (401, {"authorization": ""}),
        (401, {"authorization": "", "cookie": "bt_token="}),
        (403, {"origin": "http://evil.example"}),
        (403, {"origin": "null"}),
        (403, {"sec_fetch_site": "cross-site"}),
        (403, {"sec_fetch_site": "same-site"}),
        (403, {"authorization": "", "cookie": f"bt_token={TOKEN}"}),  # a cookie alone, from nowhere
        (415, {"content_type": "multipart/form-data; boundary=x"}),
        (415, {"content_type": "text/plain"}),
        (415, {"content_type": ""}),
        (421, {"host": "evil.example"}),
    ],
)
def test_strangers_put_nothing_into_an_inbox(door: Door, wanted: int, headers: dict[str, str]) -> None:
    status, _ = door.ask("/api/upload?inbox=1&name=x.png", BYTES, "POST", **headers)

    assert (status, door.there()) == (wanted, [])


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_other_methods_do_nothing(door: Door, method: str) -> None:
    status, _ = door.ask("/api/upload?inbox=1&name=x.png", method=method)

    assert (status, door.there()) == (405, [])


@pytest.mark.slow
def test_without_write_there_is_no_door(tmp_path: Path) -> None:
    closed = _opened(tmp_path)
    try:
        sent, listed = closed.send("x.png"), closed.ask("/api/upload/inboxes", b"", "GET")
        page = closed.ask("/", b"", "GET")
    finally:
        _closed(closed)

    assert (sent[0], listed[0], closed.there()) == (405, 400, [])
    assert "--write" in listed[1]["hint"]
    assert 'id="upload"' not in page[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
def test_a_full_disk_is_said_in_one_line_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(tmp_path / "inbox")]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        small = _opened(tmp_path, "--write", max_bytes=1 << 20)
        announced = small.send("x.png", bytes(90_000))
        unannounced = small.send("x.png", iter([bytes(50_000)] * 2))
        there = small.there()
        _closed(small)
    finally:
        subprocess.run(["umount", tmp_path / "inbox"], check=True)

    assert (announced[0], unannounced[0], there) == (507, 507, [])
    assert "no room" in unannounced[1]["error"]


@needs_browser
@pytest.mark.slow
def test_files_dropped_on_a_page_land_in_the_inbox(door: Door) -> None:
    drop = """{
      const carried = new DataTransfer();
      carried.items.add(new File([new Uint8Array(5000)], "dropped <b>x.png"));
      carried.items.add(new File([new Uint8Array(TOO_MANY)], "large.png"));
      dispatchEvent(new DragEvent("drop", {dataTransfer: carried, bubbles: true, cancelable: true}));
    }""".replace("TOO_MANY", str(LIMIT + 1))
    with browser() as tab:
        tab.open(f"http://127.0.0.1:{door.port}/", query=f"?token={TOKEN}")
        tab.wait("document.querySelector('#upload option') !== null")
        tab.run(drop)
        tab.wait("document.querySelector('#upload ul').textContent.includes('in the inbox')")
        said = tab.run("document.querySelector('#upload ul').textContent")
        console = tab.console

    assert door.there() == ["dropped <b>x.png"]
    assert "larger than" in said
    assert console == []
