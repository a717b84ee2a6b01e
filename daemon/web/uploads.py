"""Addresses that files are uploaded to, one a request, and that tell what became of them."""

from __future__ import annotations

import asyncio
import os

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from config.errors import UsageError
from config.text import printable_name
from daemon.web.api import json_answer
from daemon.web.html import site_of
from daemon.web.site import Site
from daemon.web.uploading.landing import Landing, Upload
from daemon.web.uploading.upload_inboxes import UploadInbox, state_of_upload, upload_inboxes
from daemon.web.uploading.upload_names import UploadRefusedError

# Without a byte for so long, an upload gives its place to others.
QUIET_SECONDS = 30.0
_MOST_DIGITS = 18


def inboxes(request: Request) -> Response:
    """Where files can be put, and how large they may be."""
    site = site_of(request)
    landing = _landing(site)
    with site.reader() as connection:
        found = upload_inboxes(connection)
    told = [{"id": one.id, "name": one.name} for one in found]
    return json_answer({"inboxes": told, "most_bytes": landing.max_bytes})


def upload_state(request: Request) -> Response:
    """Whether a file that was uploaded has been judged, and where its page is."""
    site = site_of(request)
    _landing(site)
    asked = request.query_params
    inbox_id, mtime_ns = _number(asked.get("inbox", "")), _number(asked.get("mtime", ""), 20)
    with site.reader() as connection:
        name = os.fsencode(asked.get("name", ""))
        state, file_id = state_of_upload(connection, inbox_id, name, mtime_ns)
    return json_answer({"state": state, "page": None if file_id is None else f"/image/{file_id}"})


async def take_upload(request: Request) -> Response:
    """Put the body into an inbox as a file."""
    site = site_of(request)
    landing = _landing(site)
    length = request.headers.get("content-length")
    try:
        inbox = await run_in_threadpool(_inbox, site, _number(request.query_params.get("inbox", "")))
        size = None if length is None else int(length)
        name = request.query_params.get("name", "")
        upload = await run_in_threadpool(landing.begin, inbox, name, size)
        try:
            await _receive(request, upload)
            landed = await run_in_threadpool(upload.place)
        finally:
            upload.discard()
    except UploadRefusedError as refused:
        return json_answer({"error": refused.what, "hint": refused.hint}, refused.status)
    return json_answer(
        {
            "name": printable_name(landed.name),
            "new": landed.is_new,
            "bytes": landed.size,
            "mtime": str(landed.mtime_ns),  # more digits than JavaScript's numbers have
        }
    )


async def _receive(request: Request, upload: Upload) -> None:
    """Write what comes as it comes; raises UploadRefusedError if it stops coming."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(QUIET_SECONDS) as patience:
            async for data in request.stream():
                patience.reschedule(None)  # the disk may take its time
                await run_in_threadpool(upload.write, data)
                patience.reschedule(loop.time() + QUIET_SECONDS)
    except ClientDisconnect:
        raise UploadRefusedError(400, "the upload was broken off") from None
    except TimeoutError:
        raise UploadRefusedError(
            408, f"nothing came for {QUIET_SECONDS:.0f} seconds", hint="send it again"
        ) from None


def _landing(site: Site) -> Landing:
    if site.writing is None:
        raise UsageError("this page is for reading only", hint="start it with: bt-daemon web --write")
    return site.writing.uploads


def _inbox(site: Site, inbox_id: int) -> UploadInbox:
    with site.reader() as connection:
        for one in upload_inboxes(connection):
            if one.id == inbox_id:
                return one
    raise UploadRefusedError(404, "there is no such inbox to write to", hint="reload the page")


def _number(word: str, digits: int = _MOST_DIGITS) -> int:
    if not (word.isascii() and word.isdecimal() and len(word) <= digits):
        raise UsageError("a number is needed")
    return int(word)
