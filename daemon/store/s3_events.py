"""S3 event notifications, as their messages name the keys that were written.

Source: "Event message structure", Amazon S3 user guide. They come from SQS as they are, wrapped by SNS, or
from EventBridge. Delivery is at least once and in no order, so of a message only the keys are believed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_plus

from config.store_url import StoreUrl


class NotAnEventError(Exception):
    """A message that no S3 notification looks like."""


def written_keys(body: str, url: StoreUrl) -> list[str]:
    """Return the keys below `url`, as a whole, that a message says were written, each once.

    Events of other buckets, prefixes and kinds (deletions) have none. Raises NotAnEventError.
    """
    try:
        told = json.loads(body)
        if isinstance(told, dict) and isinstance(told.get("Message"), str):  # SNS around it
            told = json.loads(told["Message"])
        if not isinstance(told, dict):
            raise NotAnEventError
        named = list(_named(told))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise NotAnEventError from None
    below = f"{url.key}/" if url.key else ""
    keys = [key for bucket, key in named if bucket == url.bucket and key.startswith(below)]
    return list(dict.fromkeys(key for key in keys if not key.endswith("/")))


def _named(told: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if told.get("Event") == "s3:TestEvent":
        return
    if told.get("source") == "aws.s3":  # EventBridge: the key is not encoded
        if told["detail-type"] == "Object Created":
            yield str(told["detail"]["bucket"]["name"]), str(told["detail"]["object"]["key"])
        return
    if not isinstance(told.get("Records"), list):
        raise NotAnEventError
    for record in told["Records"]:
        name = str(record["eventName"]).removeprefix("s3:")
        if name.startswith(("ObjectCreated:", "ObjectRestore:Completed")):
            yield str(record["s3"]["bucket"]["name"]), unquote_plus(str(record["s3"]["object"]["key"]))
