"""Object store inboxes as the settings ask for them: checked before anything that takes long, then opened."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from config.errors import UsageError
from config.store_url import StoreUrl
from config.text import printable
from daemon.inbox.filters import InboxRules
from daemon.store.object_listing import probe
from daemon.store.sqs_queue import SqsQueue, check_queue, queue_address
from daemon.store.store_clients import credentials_hint
from daemon.store.store_errors import StoreFault

if TYPE_CHECKING:
    from config.settings import Settings
    from daemon.clock import Clock
    from daemon.store.store_inbox import StoreInbox
    from storage.ledger.ledger import Ledger


def check_stores(urls: Sequence[StoreUrl], settings: Settings, logger: logging.Logger) -> None:
    """Raise UsageError for what can be neither meant nor read; a store that is away for now only warns."""
    if not urls:
        if settings.events:
            raise UsageError(
                "--events is for an object store, and none is watched", hint="watch s3://BUCKET/PREFIX"
            )
        return
    _check_settings(urls, settings)
    for url in urls:
        for other in urls:
            if url is not other and other.contains(url):
                raise UsageError(
                    f"{printable(str(url))} lies inside {printable(str(other))}",
                    hint="name the outer one only; what lies below it is watched too",
                )
        _check_answer(url, logger)
    if settings.events:
        check_queue(queue_address(settings.events))


def _check_settings(urls: Sequence[StoreUrl], settings: Settings) -> None:
    if settings.on_done == "move" or settings.quarantine_dir:
        setting = "--on-done move" if settings.on_done == "move" else "--quarantine-dir"
        raise UsageError(
            f"{setting} cannot be done in an object store: nothing ties its deletion to the version judged",
            hint="leave it out for stores, and expire judged objects by a lifecycle rule of the bucket",
        )
    if settings.done_files:
        raise UsageError(
            "--done-files has no use in an object store, whose objects appear whole",
            hint="leave it out, or exclude the markers: --exclude '*.done'",
        )
    if settings.events:
        queue_address(settings.events)
        if len(urls) > 1:
            raise UsageError(
                "--events names the queue of one bucket, and several are watched",
                hint="start a daemon with a database of its own for each bucket",
            )
        if urls[0].scheme != "s3":
            raise UsageError(
                f"--events sqs: tells of S3 only, not of {urls[0].scheme}://",
                hint="leave it out; --relist says how often the store is listed",
            )


def _check_answer(url: StoreUrl, logger: logging.Logger) -> None:
    trouble = probe(url)
    if trouble is None:
        return
    shown = printable(str(url))
    if trouble.fault is StoreFault.UNREACHABLE:
        logger.warning("%s: the object store %s; it is asked again until it answers", shown, trouble.words)
        return
    if trouble.fault is StoreFault.NO_BUCKET:
        hint = "name another, or make it; AWS_ENDPOINT_URL says which server is asked"
    elif "region" in trouble.words:
        hint = "set AWS_REGION to the bucket's region"
    elif trouble.fault is StoreFault.BAD_KEY:
        hint = "rename that object, or watch a prefix beside it"
    else:
        hint = f"{credentials_hint(url.scheme)}; they need s3:ListBucket and s3:GetObject or the like"
    raise UsageError(f"{shown}: the object store {trouble.words}", hint=hint)


def store_rules(settings: Settings, *, once: bool) -> InboxRules:
    """Return what is taken of an object store."""
    return InboxRules(
        recursive=settings.recursive,
        include=settings.include,
        exclude=settings.exclude,
        rescan_seconds=settings.relist_seconds,
        once=once,
    )


@dataclass(frozen=True, slots=True)
class StoreWorld:
    """What the inbox of a store lives in."""

    ledger: Ledger
    wake: Callable[[], None]
    clock: Clock
    log: logging.Logger


def store_inbox(url: StoreUrl, settings: Settings, world: StoreWorld, *, once: bool) -> StoreInbox:
    """Return the inbox of a store; with `once` notifications are left to whoever watches."""
    from daemon.store.store_inbox import StoreInbox

    rules = store_rules(settings, once=once)
    queue = (
        partial(SqsQueue, queue_address(settings.events), url, world.wake, world.log)
        if settings.events and not once
        else None
    )
    number = world.ledger.inbox_id(str(url).encode())
    return StoreInbox(url, number, rules, world.ledger.unknown, world.wake, world.clock, world.log, queue)
