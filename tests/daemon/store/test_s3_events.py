"""S3's notifications in all the forms they come in; of what is none, nothing is believed."""

from __future__ import annotations

import json

import pytest

from config.store_url import StoreUrl
from daemon.store.s3_events import NotAnEventError, written_keys

_URL = StoreUrl("s3", "mri", "in")


def _record(key: str, bucket: str = "mri", name: str = "ObjectCreated:Put") -> dict[str, object]:
    return {"eventName": name, "s3": {"bucket": {"name": bucket}, "object": {"key": key, "size": 1}}}


def test_keys_are_decoded_and_named_once() -> None:
    body = json.dumps({"Records": [_record("in/x+y+%C3%BC%252F.png")] * 2 + [_record("in/b.png")]})

    assert written_keys(body, _URL) == ["in/x y ü%2F.png", "in/b.png"]


def test_what_is_of_no_concern_names_nothing() -> None:
    records = [
        _record("inbox/a.png"),
        _record("in/a.png", bucket="other"),
        _record("in/a.png", name="ObjectRemoved:Delete"),
        _record("in/folder/"),
    ]

    assert written_keys(json.dumps({"Records": records}), _URL) == []
    assert written_keys(json.dumps({"Event": "s3:TestEvent", "Bucket": "mri"}), _URL) == []


def test_sns_and_eventbridge_wrap_the_same() -> None:
    inner = json.dumps({"Records": [_record("in/a%2Bb.png")]})
    bridge = {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {"bucket": {"name": "mri"}, "object": {"key": "in/a+b.png"}},
    }

    assert written_keys(json.dumps({"Type": "Notification", "Message": inner}), _URL) == ["in/a+b.png"]
    assert written_keys(json.dumps(bridge), _URL) == ["in/a+b.png"]


@pytest.mark.parametrize(
    "body",
    ["", "hello", "[]", "{}", "null", '{"Records": [1]}', '{"Records": [{"eventName": "ObjectCreated:Put"}]}',
     '{"Message": "no"}', '{"source": "aws.s3"}', "[" * 100_000],
)  # fmt: skip
def test_what_is_no_notification_is_said_to_be_none(body: str) -> None:
    with pytest.raises(NotAnEventError):
        written_keys(body, _URL)
