"""Notifications out of an SQS queue: a thread asks, looks at the objects, and deletes what was taken in.

botocore speaks to SQS: it is in the extra for AWS's profile files anyway, and signing, retries, SSO and
roles are what one does not write again. A message is deleted only after the inbox has confirmed that the
ledger holds what it names; until then SQS gives it out again, to this daemon or the next.
"""

from __future__ import annotations

import collections
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from config.errors import UsageError
from config.extras import not_installed
from config.store_url import StoreUrl
from config.text import printable
from daemon.store.object_identity import ListedObject, identity_of
from daemon.store.object_listing import LIST_SECONDS
from daemon.store.s3_events import NotAnEventError, written_keys
from daemon.store.store_clients import aws_session, open_store
from daemon.store.store_errors import StoreFault, explain

# SQS answers an empty queue after this long; each question costs 0.0000004 $.
POLL_SECONDS = 20
# For so long a message that was received is given to nobody else: longer than looking and storing take.
_HIDDEN_SECONDS = 180
_RETRY_SECONDS = 30.0
_MESSAGES_AHEAD = 200
_LOOKERS = 8


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message: what it names, as the store says it is now."""

    receipt: str
    objects: list[ListedObject]


class SqsQueue:
    """The thread on one queue, from its start to `close`."""

    def __init__(
        self,
        queue_url: str,
        url: StoreUrl,
        wake: Callable[[], None],
        log: logging.Logger,
    ) -> None:
        self._queue_url = queue_url
        self._url = url
        self._wake = wake
        self._log = log
        self._poll_seconds = POLL_SECONDS
        self._client = sqs_client(queue_url, self._poll_seconds)
        self._arrivals: queue.Queue[Arrival] = queue.Queue(_MESSAGES_AHEAD)
        self._done: collections.deque[str] = collections.deque()
        self._closing = threading.Event()
        self._foreign_said = False
        self.trouble = ""  # why notifications do not come, one line
        self.messages = 0
        self._thread = threading.Thread(target=self._run, name="store-events", daemon=True)
        self._thread.start()

    def take(self, limit: int) -> list[Arrival]:
        """Return at most `limit` messages that have arrived."""
        taken: list[Arrival] = []
        while len(taken) < limit:
            try:
                taken.append(self._arrivals.get_nowait())
            except queue.Empty:
                break
        return taken

    def waiting(self) -> bool:
        """Tell whether there is anything to take."""
        return not self._arrivals.empty()

    def confirm(self, receipt: str) -> None:
        """Say that the ledger holds what a message named: now it is deleted."""
        self._done.append(receipt)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End the thread, waiting a moment for it; what it has not deleted comes again, to no harm."""
        self._closing.set()
        self._thread.join(timeout=1.5)

    def _run(self) -> None:
        with ThreadPoolExecutor(_LOOKERS, thread_name_prefix="store-look") as lookers:
            while not self._closing.is_set():
                try:
                    self._turn(lookers)
                except Exception as error:  # noqa: BLE001 - without hints the listing still tells all
                    self._failed(error)
        self._delete_done()

    def _turn(self, lookers: ThreadPoolExecutor) -> None:
        self._delete_done()
        if self._arrivals.full():
            self._closing.wait(0.2)
            return
        # While some await their confirmation the next question is a short one, so that they are deleted soon.
        wait = min(1, self._poll_seconds) if self._done or self.waiting() else self._poll_seconds
        answer = self._client.receive_message(
            QueueUrl=self._queue_url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=wait,
            VisibilityTimeout=_HIDDEN_SECONDS,
        )
        if self.trouble:
            self._log.info("notifications come again from the queue")
            self.trouble = ""
        messages = [
            (one["ReceiptHandle"], keys)
            for one in answer.get("Messages", ())
            if (keys := self._keys(one["Body"])) is not None
        ]
        self._look_and_put(messages, lookers)

    def _look_and_put(self, messages: list[tuple[str, list[str]]], lookers: ThreadPoolExecutor) -> None:
        wanted = list(dict.fromkeys(key for _, keys in messages for key in keys))
        seen = dict(zip(wanted, lookers.map(self._look, wanted), strict=True))
        for receipt, keys in messages:
            looks = [seen[key] for key in keys]
            if any(isinstance(look, Exception) for look in looks):
                continue  # it comes again
            self.messages += 1
            objects = [look for look in looks if isinstance(look, ListedObject)]
            while not self._closing.is_set():
                try:
                    self._arrivals.put(Arrival(receipt, objects), timeout=0.2)
                    break
                except queue.Full:
                    self._wake()
        if messages:
            self._wake()

    def _look(self, key: str) -> ListedObject | Exception | None:
        """Return an object as it is now, None if it is gone, the error if the store does not say."""
        import obstore

        try:
            store = open_store(self._url, request_seconds=LIST_SECONDS, retries=1)
            meta = obstore.head(store, key)
        except Exception as error:  # noqa: BLE001 - it is returned
            gone = explain(error).fault in (StoreFault.GONE, StoreFault.BAD_KEY)
            return None if gone else error
        cut = len(self._url.key) + 1 if self._url.key else 0
        return ListedObject(key[cut:], identity_of(meta))

    def _keys(self, body: str) -> list[str] | None:
        try:
            return written_keys(body, self._url)
        except NotAnEventError:
            if not self._foreign_said:
                self._log.warning(
                    "the queue holds messages that are no S3 notifications; they are left in it"
                )
            self._foreign_said = True
            return None

    def _delete_done(self) -> None:
        while self._done:
            receipts = [self._done.popleft() for _ in range(min(10, len(self._done)))]
            entries = [{"Id": str(n), "ReceiptHandle": receipt} for n, receipt in enumerate(receipts)]
            try:
                self._client.delete_message_batch(QueueUrl=self._queue_url, Entries=entries)
            except Exception as error:  # noqa: BLE001 - they come again, and are known
                self._failed(error)
                return

    def _failed(self, error: Exception) -> None:
        why = why_refused(error)
        if not self.trouble:
            self._log.warning(
                "notifications do not come from the queue (%s); the listing alone finds objects", why
            )
        self.trouble = why
        self._wake()
        self._closing.wait(_RETRY_SECONDS)


def queue_address(setting: str) -> str:
    """Return the queue's URL in `sqs:URL`; raise UsageError for anything else."""
    url = setting.removeprefix("sqs:")
    parts = urlsplit(url)
    if not setting.startswith("sqs:") or parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"--events: {printable(repr(setting))} is no queue",
            hint="write sqs:https://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE",
        )
    return url


def check_queue(queue_url: str) -> None:
    """Raise UsageError if there is no such queue, or it may not be read; one request."""
    client = sqs_client(queue_url, 1)
    try:
        client.receive_message(
            QueueUrl=queue_url, MaxNumberOfMessages=1, WaitTimeSeconds=0, VisibilityTimeout=0
        )
    except Exception as error:  # noqa: BLE001 - trouble that may pass is the thread's to tell
        status = _status_of(error)
        if 400 <= status < 500 and status != 429:
            raise UsageError(
                f"--events: the queue cannot be read ({why_refused(error)})",
                hint="it needs sqs:ReceiveMessage and sqs:DeleteMessage; see daemon/README.md, Object stores",
            ) from None
        if status == 0 and type(error).__name__ == "NoCredentialsError":
            raise UsageError("--events: no AWS credentials were found", hint="set AWS_PROFILE") from None


def sqs_client(queue_url: str, poll_seconds: int) -> Any:
    """Return botocore's client of the queue, at the server that its URL names."""
    session = aws_session()
    try:
        from botocore.config import Config
    except ModuleNotFoundError as error:
        raise not_installed(error) from error
    parts = urlsplit(queue_url)
    labels = (parts.hostname or "").split(".")
    region = labels[1] if labels[0] == "sqs" and len(labels) > 3 else None
    return session.create_client(
        "sqs",
        region_name=region or session.get_config_variable("region") or "us-east-1",
        endpoint_url=f"{parts.scheme}://{parts.netloc}",
        config=Config(
            retries={"mode": "standard", "total_max_attempts": 3},
            connect_timeout=3,
            read_timeout=poll_seconds + 10,
        ),
    )


def why_refused(error: Exception) -> str:
    """Return an error of SQS in some words, without addresses."""
    told = getattr(error, "response", {}).get("Error", {})
    code = str(told.get("Code", "")).rpartition(".")[2]
    status = _status_of(error)
    return printable(" ".join(part for part in (str(status or ""), code) if part) or type(error).__name__)


def _status_of(error: Exception) -> int:
    response = getattr(error, "response", None) or {}
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
