"""Where a head is and who may reach it: nothing beyond this machine without a key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from config.errors import UsageError
from daemon.remote.head_address import HeadAddress, head_address
from daemon.remote.workers_key import check_key, make_key
from tests.support.daemons import bt_daemon


@pytest.mark.parametrize(
    ("given", "key", "wanted"),
    [
        ("tcp://127.0.0.1:8786", "", HeadAddress("127.0.0.1", 8786, False)),
        ("tcp://localhost", "", HeadAddress("localhost", 8786, False)),
        ("tcp://[::1]:9", "", HeadAddress("::1", 9, False)),
        ("tcp://head.example:8786", "key.pem", HeadAddress("head.example", 8786, True)),
        ("tls://10.0.0.1/", "key.pem", HeadAddress("10.0.0.1", 8786, True)),
        ("tcp://:8786", "key.pem", HeadAddress("", 8786, True)),
    ],
)
def test_an_address_is_understood(given: str, key: str, wanted: HeadAddress) -> None:
    found = head_address(given, key, joining=False)

    assert found == wanted
    assert head_address(str(found), key, joining=False) == wanted


@pytest.mark.parametrize(
    "given", ["tcp://:8786", "tcp://10.0.0.1:8786", "tcp://head.example", "tcp://0.0.0.0"]
)
def test_an_address_beyond_this_machine_is_refused_without_a_key(given: str) -> None:
    with pytest.raises(UsageError, match="nothing protects it; make a key with bt-daemon worker --make-key"):
        head_address(given, "", joining=False)


@pytest.mark.parametrize(
    "given", ["127.0.0.1:8786", "http://x:1", "tcp://x:0", "tcp://x:70000", "tcp://u@x", ""]
)
def test_what_is_no_address_is_told_how_one_is_written(given: str) -> None:
    with pytest.raises(UsageError, match="is no address of a head; write tcp://HOST:8786"):
        head_address(given, "", joining=True)


def test_tls_without_a_key_and_a_worker_without_a_host_are_refused() -> None:
    with pytest.raises(UsageError, match="there is no key for it"):
        head_address("tls://127.0.0.1:1", "", joining=True)
    with pytest.raises(UsageError, match="names no machine"):
        head_address("tcp://:8786", "key.pem", joining=True)


def test_a_key_is_for_its_owner_alone_and_never_written_over(tmp_path: Path) -> None:
    key = tmp_path / "workers.pem"

    make_key(key)

    content = key.read_bytes()
    assert key.stat().st_mode & 0o777 == 0o600
    assert check_key(str(key)) == str(key)
    with pytest.raises(UsageError, match="File exists"):
        make_key(key)
    assert key.read_bytes() == content


def test_a_key_that_others_can_read_or_that_is_none_is_refused(tmp_path: Path) -> None:
    key = tmp_path / "workers.pem"
    make_key(key)
    half = tmp_path / "half.pem"
    half.write_bytes(key.read_bytes().partition(b"-----BEGIN PRIVATE")[0])
    half.chmod(0o600)

    key.chmod(0o644)

    with pytest.raises(UsageError, match=r"others can read the key .*; chmod 600"):
        check_key(str(key))
    with pytest.raises(UsageError, match="not a PEM with certificate and key"):
        check_key(str(half))
    with pytest.raises(UsageError, match="No such file"):
        check_key(str(tmp_path / "missing.pem"))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("watch", "{inbox}", "--workers", "tcp://0.0.0.0:8786"), "nothing protects it"),
        (("watch", "{inbox}", "--lanes", "none"), "--lanes none leaves nobody to judge"),
        (("watch", "{inbox}", "--lanes", "few"), "is not a whole number"),
        (("worker", "tcp://10.0.0.1:8786"), "nothing protects it"),
        (("worker", "tcp://127.0.0.1:8786", "--lanes", "none"), "--lanes none leaves nobody to judge"),
        (("worker",), "no daemon to join"),
        (("classify", "{inbox}", "--lanes", "none"), "--lanes none leaves nobody to judge here"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_writes_nothing(
    tmp_path: Path, words: tuple[str, ...], line: str
) -> None:
    inbox, database = tmp_path / "inbox", tmp_path / "results.db"
    inbox.mkdir()
    (inbox / "x.png").write_bytes(b"no picture")

    done = bt_daemon(
        *(word.format(inbox=inbox) for word in words), env={**os.environ, "BT_DB": str(database)}
    )

    assert done.returncode == 2
    (said,) = done.stderr.splitlines()
    assert line in said
    assert not database.exists()
