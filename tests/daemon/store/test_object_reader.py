"""Objects read as images: one version only, bounded, and every failure of the kind that it is."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from daemon.store import object_reader
from daemon.store.object_reader import look_at_object, read_object
from daemon.store.source_reader import is_source_unchanged, read_judged_source, read_source
from tests.support.object_store import ObjectServer, free_port
from trainer.images.picture import Limits, PictureError, ReadFailure
from trainer.images.read import JudgedFile

_LIMITS = Limits(max_bytes=100_000)


def _failure(path: bytes, expected: tuple[int, int, int] | None = None) -> ReadFailure:
    with pytest.raises(PictureError) as caught:
        read_object(path, _LIMITS, expected)
    assert "\n" not in caught.value.reason
    assert "http" not in caught.value.reason
    return caught.value.kind


def test_an_object_is_read_with_its_identity(server: ObjectServer, bucket: str) -> None:
    server.client().put_object(Bucket=bucket, Key="in/x y+ü%2F#.png", Body=b"content")
    path = f"s3://{bucket}/in/x y+ü%2F#.png".encode()

    seen = look_at_object(path)
    content = read_source(path, _LIMITS, seen)

    assert content.data == b"content"
    assert content.sha256 == hashlib.sha256(b"content").digest()
    assert (content.size, content.mtime_ns, content.inode) == seen


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_object_overwritten_while_it_is_read_is_another_version(
    server: ObjectServer, bucket: str, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """After each of its parts once: what was read is never a mixture."""
    monkeypatch.setattr(object_reader, "PART_BYTES", 10_000)
    client = server.client()
    client.put_object(Bucket=bucket, Key="x.png", Body=b"a" * 35_000)
    path = f"s3://{bucket}/x.png".encode()
    before = look_at_object(path)
    parts = []

    def overwrite() -> None:
        parts.append(1)
        if len(parts) == number:
            client.put_object(Bucket=bucket, Key="x.png", Body=b"b" * 35_000)

    with pytest.raises(PictureError) as caught:
        read_object(path, _LIMITS, before, progress=overwrite)

    assert caught.value.kind is ReadFailure.CHANGED
    assert len(parts) == number
    after = look_at_object(path)
    assert after != before
    assert read_object(path, _LIMITS, after).data == b"b" * 35_000


def test_a_large_object_is_read_in_parts_that_show_progress(
    server: ObjectServer, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_reader, "PART_BYTES", 10_000)
    body = os.urandom(40_000)
    server.client().put_object(Bucket=bucket, Key="x", Body=body)
    steps: list[int] = []

    content = read_object(f"s3://{bucket}/x".encode(), _LIMITS, progress=lambda: steps.append(1))

    assert content.data == body
    assert len(steps) == 4


def test_an_object_that_was_overwritten_before_it_is_read_is_another_version(
    server: ObjectServer, bucket: str
) -> None:
    client = server.client()
    client.put_object(Bucket=bucket, Key="x", Body=b"one")
    before = look_at_object(f"s3://{bucket}/x".encode())
    client.put_object(Bucket=bucket, Key="x", Body=b"two")

    assert _failure(f"s3://{bucket}/x".encode(), before) is ReadFailure.CHANGED


def test_more_than_the_limit_is_refused_before_anything_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")

    assert _failure(b"s3://bucket/x", (100_001, 0, 0)) is ReadFailure.PERMANENT
    assert _failure(b"s3://bucket/x", (0, 0, 0)) is ReadFailure.PERMANENT
    assert _failure(b"s3://bucket/x", (100_000, 0, 0)) is ReadFailure.TRANSIENT


def test_an_object_that_outgrew_the_limit_is_refused_by_its_head(server: ObjectServer, bucket: str) -> None:
    server.client().put_object(Bucket=bucket, Key="x", Body=b"x" * 100_001)

    assert _failure(f"s3://{bucket}/x".encode()) is ReadFailure.PERMANENT


def test_a_deleted_object_is_gone_and_a_missing_bucket_may_come_back(
    server: ObjectServer, bucket: str
) -> None:
    server.client().put_object(Bucket=bucket, Key="x", Body=b"one")
    seen = look_at_object(f"s3://{bucket}/x".encode())
    server.client().delete_object(Bucket=bucket, Key="x")

    assert _failure(f"s3://{bucket}/x".encode(), seen) is ReadFailure.GONE
    assert _failure(b"s3://no-such-bucket/x", seen) is ReadFailure.TRANSIENT


def test_only_what_was_judged_is_shown(server: ObjectServer, bucket: str) -> None:
    client = server.client()
    client.put_object(Bucket=bucket, Key="in/x", Body=b"one")
    root = f"s3://{bucket}/in".encode()
    judged = JudgedFile(root, b"x", hashlib.sha256(b"one").digest())
    moved = JudgedFile(b"", root + b"/x", hashlib.sha256(b"one").digest())

    content = read_judged_source(judged, _LIMITS)
    assert content.data == read_judged_source(moved, _LIMITS).data == b"one"
    assert is_source_unchanged(judged, content)

    client.put_object(Bucket=bucket, Key="in/x", Body=b"two")
    assert not is_source_unchanged(judged, content)
    with pytest.raises(PictureError) as caught:
        read_judged_source(judged, _LIMITS)
    assert caught.value.kind is ReadFailure.CHANGED


def test_a_local_folder_is_read_as_a_store_is(tmp_path: Path) -> None:
    pytest.importorskip("obstore")
    place = tmp_path / "a b%.png"
    place.write_bytes(b"one")
    path = f"file://{place}".encode()
    seen = look_at_object(path)

    assert read_source(path, _LIMITS, seen).data == b"one"
    place.write_bytes(b"other")
    assert _failure(path, seen) is ReadFailure.CHANGED
    place.unlink()
    assert _failure(path, seen) is ReadFailure.GONE
