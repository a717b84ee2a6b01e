"""The review page, and the addresses that its script asks and writes to."""

from __future__ import annotations

import time
from dataclasses import asdict
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from config.errors import UsageError
from daemon.web.address import asked, whole_number
from daemon.web.api import json_answer
from daemon.web.html import page, site_of
from daemon.web.reviewing.desk import QUEUES, ReviewDesk
from daemon.web.reviewing.review_messages import check_reviewer
from daemon.web.site import Site
from storage.query import Query
from storage.reviews.review_queue import candidates, waiting

_MOST_AT_ONCE = 20
_MOST_AT_HAND = 100
_LISTED = 50  # where nobody can answer
_MOST_ID = 10**18


def review_page(request: Request) -> Response:
    """What a person should look at, to be answered by keyboard."""
    site = site_of(request)
    wanted = asked(request.query_params, site.zone)
    queue = _queue(request)
    file_id = whole_number(request.query_params.get("id", ""), "id", None, _MOST_ID)
    with site.reader() as connection:
        waits = waiting(connection, wanted.query)
        found = (
            candidates(connection, wanted.query, origins=QUEUES[queue], limit=_LISTED)
            if site.writing is None
            else []
        )
    return page(
        "review.html", site, "review", asked=wanted, queue=queue, queues=_QUEUE_WORDS, chosen=file_id,
        waiting=waits, query=urlencode(dict(wanted.words)), found=found,
    )  # fmt: skip


def next_candidates(request: Request) -> Response:
    """Hand out what comes next for a reviewer."""
    site = site_of(request)
    desk = _desk(site)
    reviewer = request.query_params.get("reviewer", "")
    check_reviewer(reviewer)
    wanted = asked(request.query_params, site.zone)
    chosen = request.query_params.get("id", "")
    with site.reader() as connection:
        if chosen:
            file_id = whole_number(chosen, "id", None, _MOST_ID) or 0
            found = desk.one(connection, reviewer, file_id, wanted.query.model)
        else:
            at_once = whole_number(request.query_params.get("n", ""), "n", 5, _MOST_AT_ONCE) or 0
            at_hand = request.query_params.get("without", "").split(",")[:_MOST_AT_HAND]
            without = [number for one in at_hand if (number := whole_number(one, "without", None, _MOST_ID))]
            found = desk.hand_out(connection, reviewer, wanted.query, _queue(request), at_once, without)
        waits = waiting(connection, Query(model=wanted.query.model))
    return json_answer({"candidates": found, "waiting": asdict(waits)})


async def add_review(request: Request) -> Response:
    """Store one answer."""
    desk, body = _desk(site_of(request)), await _body(request)
    added = await run_in_threadpool(desk.add, body, _now_us())
    return json_answer({"review": added.review_id, "new": added.is_new})


async def undo_review(request: Request) -> Response:
    """Take one answer back."""
    desk, body = _desk(site_of(request)), await _body(request)
    withdrawn = await run_in_threadpool(desk.withdraw, body, _now_us())
    return json_answer({"withdrawn": withdrawn})


_QUEUE_WORDS = {
    "all": "All in turn",
    "uncertain": "Uncertain",
    "near": "Near the threshold",
    "random": "Random sample",
}


def _desk(site: Site) -> ReviewDesk:
    if site.writing is None:
        raise UsageError("this page is for reading only", hint="start it with: bt-daemon web --write")
    return site.writing.reviews


async def _body(request: Request) -> bytes:
    """Return a request's body, which the guard has let in by its length."""
    try:
        return await request.body()
    except ClientDisconnect:
        raise HTTPException(400, "the request ended before it was whole") from None


def _queue(request: Request) -> str:
    queue = request.query_params.get("queue", "") or "all"
    if queue not in QUEUES:
        raise UsageError(f"queue must be one of {', '.join(QUEUES)}")
    return queue


def _now_us() -> int:
    return time.time_ns() // 1000
