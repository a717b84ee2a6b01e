"""Addresses of object stores: what is taken, what is refused, and that no secret is repeated."""

from __future__ import annotations

import pytest

from config.errors import UsageError
from config.store_url import StoreUrl, is_readable_key, is_store_url, names_a_server, parse_store_url


@pytest.mark.parametrize(
    ("text", "parts", "shown"),
    [
        ("s3://mri/in", ("s3", "mri", "in"), "s3://mri/in"),
        ("S3://mri/in/2026/", ("s3", "mri", "in/2026"), "s3://mri/in/2026"),
        ("s3://mri", ("s3", "mri", ""), "s3://mri"),
        ("gs://a.b-c/x y+ü%2F", ("gs", "a.b-c", "x y+ü%2F"), "gs://a.b-c/x y+ü%2F"),
        ("az://container/p", ("az", "container", "p"), "az://container/p"),
        ("file:///srv/mri/", ("file", "/srv/mri", ""), "file:///srv/mri"),
    ],
)
def test_an_address_is_taken_apart_and_written_as_before(
    text: str, parts: tuple[str, str, str], shown: str
) -> None:
    url = parse_store_url(text)

    assert (url.scheme, url.bucket, url.key) == parts
    assert str(url) == shown
    assert parse_store_url(shown) == url


@pytest.mark.parametrize(
    "text",
    ["s3://", "s3:///key", "s3://bucket/a//b", "s3://bucket/a/../b", "s3://b\x00ucket/x", "s3://bucket/a\tb",
     "ftp://host/x", "file://relative", "file:///", "s3://x"],
)  # fmt: skip
def test_an_address_that_no_object_can_have_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_store_url(text)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as caught:
        parse_store_url("s3://AKIAX:s3cr3t@bucket/x")

    assert "s3cr3t" not in str(caught.value)
    assert "environment" in str(caught.value)


def test_what_stands_for_a_path_is_told_from_one() -> None:
    assert is_store_url(b"s3://mri/x.png")
    assert is_store_url("GS://mri")
    assert not is_store_url(b"/srv/s3://mri")
    assert not is_store_url(b"s3:/mri")
    assert names_a_server("https://x/y")
    assert not names_a_server("./http:/x")


def test_one_prefix_contains_what_lies_below_it_only() -> None:
    outer = StoreUrl("s3", "mri", "in")

    assert outer.contains(StoreUrl("s3", "mri", "in/2026"))
    assert StoreUrl("s3", "mri", "").contains(outer)
    assert not outer.contains(StoreUrl("s3", "mri", "inbox"))
    assert not outer.contains(StoreUrl("gs", "mri", "in/2026"))
    assert StoreUrl("file", "/srv", "").contains(StoreUrl("file", "/srv/mri", ""))


def test_keys_that_cannot_be_asked_for_are_known() -> None:
    assert is_readable_key("a b/ü\u00a0%.png")
    assert not any(map(is_readable_key, ("a//b", "a/./b", "../a", "a\tb", "/a", "a\x7f")))
