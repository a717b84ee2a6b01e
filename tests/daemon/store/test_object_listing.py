"""Listings of a bucket and of a local folder: everything below a prefix, odd keys too, in bounded memory."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from config.store_url import parse_store_url
from daemon.store import object_listing
from daemon.store.object_identity import ListedObject
from daemon.store.object_listing import ODD_KEY, ObjectListing, probe
from daemon.store.object_reader import look_at_object
from daemon.store.store_errors import StoreFault
from tests.support.object_store import ObjectServer, free_port


def _all(listing: ObjectListing) -> list[ListedObject]:
    found: list[ListedObject] = []
    deadline = time.monotonic() + 30
    while not listing.finished:
        assert time.monotonic() < deadline
        found += listing.page()
        time.sleep(0.001)
    listing.close()
    return found


def _keys(url: str) -> list[str]:
    return [one.key for one in _all(ObjectListing(parse_store_url(url), lambda: None))]


def test_what_lies_below_a_prefix_is_listed_and_nothing_beside_it(server: ObjectServer, bucket: str) -> None:
    client = server.client()
    for key in ("in/a.png", "in/sub/b ü%+.png", "inbox/c.png", "d.png"):
        client.put_object(Bucket=bucket, Key=key, Body=b"x")

    assert _keys(f"s3://{bucket}/in") == ["a.png", "sub/b ü%+.png"]
    assert len(_keys(f"s3://{bucket}")) == 4


def test_listing_and_head_give_one_identity(server: ObjectServer, bucket: str) -> None:
    server.client().put_object(Bucket=bucket, Key="in/a.png", Body=b"x")

    (listed,) = _all(ObjectListing(parse_store_url(f"s3://{bucket}/in"), lambda: None))

    assert listed.identity == look_at_object(f"s3://{bucket}/in/a.png".encode())


@pytest.mark.parametrize("odd", ["in/c//d.png", "in/c/../d.png", "in/c/d\t.png", "in//"])
def test_a_key_that_cannot_be_read_hides_no_other(
    server: ObjectServer, bucket: str, odd: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_listing, "PAGE", 2)
    client = server.client()
    good = [f"in/{letter}/{number}.png" for letter in "abcdef" for number in range(3)]
    for key in (*good, odd):
        client.put_object(Bucket=bucket, Key=key, Body=b"x")
    listing = ObjectListing(parse_store_url(f"s3://{bucket}/in"), lambda: None)

    found = _all(listing)

    assert [f"in/{one.key}" for one in found] == good
    assert listing.trouble is None
    assert listing.odd[ODD_KEY] == (0 if odd.endswith("/") else 1)
    for one in found:
        assert one.identity == look_at_object(f"s3://{bucket}/in/{one.key}".encode())


def test_a_listing_is_never_far_ahead_of_its_reader(
    server: ObjectServer, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_listing, "PAGE", 1)
    for number in range(30):
        server.client().put_object(Bucket=bucket, Key=f"{number:02}", Body=b"x")
    listing = ObjectListing(parse_store_url(f"s3://{bucket}"), lambda: None)
    time.sleep(0.5)

    assert not listing.finished
    assert listing._pages.qsize() == object_listing._PAGES_AHEAD
    assert len(_all(listing)) == 30


def test_a_probe_tells_what_is_wrong(
    server: ObjectServer, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert probe(parse_store_url(f"s3://{bucket}/nothing-there-yet")) is None
    missing = probe(parse_store_url("s3://no-such-bucket/in"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    away = probe(parse_store_url("s3://other-bucket"))

    assert missing is not None
    assert (missing.fault, missing.words) == (
        StoreFault.NO_BUCKET,
        "has no such bucket (404 NoSuchBucket)",
    )
    assert away is not None
    assert (away.fault, away.words) == (StoreFault.UNREACHABLE, "cannot be reached")


def test_a_local_folder_is_listed_as_a_store_is(tmp_path: Path) -> None:
    pytest.importorskip("obstore")
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("in/a.png", "in/sub/b c%.png"):
        (tmp_path / name).write_bytes(b"x")

    assert sorted(_keys(f"file://{tmp_path}/in")) == ["a.png", "sub/b c%.png"]
