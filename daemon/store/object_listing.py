"""List what lies below a prefix, page by page, in a thread that is never far ahead of its reader.

A listing of any length costs the memory of some pages. obstore cannot express a key with an empty part,
with . or .. or with a control character, and fails on the page that holds one; on S3 botocore then goes on
from the last key, passing such keys over by name, so that one odd upload does not hide the million images
behind it.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from config.store_url import StoreUrl, is_readable_key
from daemon.store.object_identity import ListedObject, identity_of, make_identity
from daemon.store.store_clients import open_store, s3_client
from daemon.store.store_errors import StoreFault, StoreTrouble, explain

# A page of ListObjectsV2; so many pages are held for a reader that is busy (about 4 MB).
PAGE = 1000
_PAGES_AHEAD = 8
# A page that is not there within this time, and one repetition, means that the store is away.
LIST_SECONDS = 30.0
_RETRIES = 3
_WAIT_SECONDS = 0.2

ODD_KEY = "key with an empty part, . or a control character"


class ObjectListing:
    """One listing under way; a page at a time is taken by one other thread."""

    def __init__(self, url: StoreUrl, wake: Callable[[], None]) -> None:
        """Begin at once; `wake` is called whenever a page is ready, and at the end."""
        self._url = url
        self._wake = wake
        self._pages: queue.Queue[list[ListedObject]] = queue.Queue(_PAGES_AHEAD)
        self._closing = threading.Event()
        self.odd: Counter[str] = Counter()  # keys that cannot be read, by why
        self.trouble: StoreTrouble | None = None  # why it ended early
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="store-listing", daemon=True)
        self._thread.start()

    def page(self) -> list[ListedObject]:
        """Return the next page, [] if none is ready."""
        try:
            return self._pages.get_nowait()
        except queue.Empty:
            return []

    @property
    def ready(self) -> bool:
        """Whether there is a page to take, or the end to notice."""
        return self._ended or not self._pages.empty()

    @property
    def finished(self) -> bool:
        """Whether it has ended and every page was taken."""
        return self._ended and self._pages.empty()

    def close(self) -> None:
        """Let go of it; a request that is under way ends by itself."""
        self._closing.set()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        try:
            for page in _pages(self._url, self.odd):
                if not self._put(page):
                    return
                self._wake()
        except Exception as error:  # noqa: BLE001 - whatever a store does, the daemon hears of it
            self.trouble = understood(error)
        finally:
            self._ended = True
            self._wake()

    def _put(self, page: list[ListedObject]) -> bool:
        while not self._closing.is_set():
            with contextlib.suppress(queue.Full):
                self._pages.put(page, timeout=_WAIT_SECONDS)
                return True
        return False


def probe(url: StoreUrl) -> StoreTrouble | None:
    """Ask for the first page: None if it comes, else why not. One request, or its repetitions."""
    try:
        next(_pages(url, Counter()), None)
    except Exception as error:  # noqa: BLE001 - whatever a store does, the daemon hears of it
        return understood(error)
    return None


def understood(error: Exception) -> StoreTrouble:
    """Return what an error of a listing means: nothing but the bucket can be missing."""
    if isinstance(error, _BotocoreTroubleError):
        return error.trouble
    trouble = explain(error)
    if trouble.fault is StoreFault.GONE:
        return StoreTrouble(StoreFault.NO_BUCKET, trouble.words.replace("object", "bucket"))
    return trouble


class _BotocoreTroubleError(Exception):
    def __init__(self, trouble: StoreTrouble) -> None:
        super().__init__(trouble.words)
        self.trouble = trouble


def _pages(url: StoreUrl, odd: Counter[str]) -> Iterator[list[ListedObject]]:
    import obstore
    from obstore.exceptions import InvalidPathError

    store = open_store(url, request_seconds=LIST_SECONDS, retries=_RETRIES)
    cut = len(url.key) + 1 if url.key else 0
    last = ""
    try:
        for chunk in obstore.list(store, url.key or None, chunk_size=PAGE):
            last = chunk[-1]["path"]
            yield [ListedObject(one["path"][cut:], identity_of(one)) for one in chunk]
    except InvalidPathError:
        if url.scheme != "s3":
            raise
    else:
        return
    yield from _pages_by_botocore(url, last, odd)


def _pages_by_botocore(url: StoreUrl, after: str, odd: Counter[str]) -> Iterator[list[ListedObject]]:
    from botocore.exceptions import BotoCoreError, ClientError

    client: Any = s3_client()
    prefix = f"{url.key}/" if url.key else ""
    try:
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=url.bucket, Prefix=prefix, StartAfter=after
        )
        for page in pages:
            found = [one for one in page.get("Contents", ()) if _is_readable(one["Key"], odd)]
            yield [
                ListedObject(
                    one["Key"][len(prefix) :], make_identity(one["Size"], one["LastModified"], one["ETag"])
                )
                for one in found
            ]
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        fault = StoreFault.DENIED if status in (401, 403) else StoreFault.UNREACHABLE
        raise _BotocoreTroubleError(StoreTrouble(fault, f"answers {status}")) from error
    except BotoCoreError as error:
        raise _BotocoreTroubleError(StoreTrouble(StoreFault.UNREACHABLE, "cannot be reached")) from error


def _is_readable(key: str, odd: Counter[str]) -> bool:
    if key.endswith("/"):  # the mark of a folder that a console made
        return False
    if is_readable_key(key):
        return True
    odd[ODD_KEY] += 1
    return False
