"""Downloads of what is filtered, streamed row by row in the formats of `bt-daemon results --format`.

A thread of its own reads the database and hands on no more than a few chunks ahead of the browser. It ends,
and frees its view of the database, when the browser goes away or takes nothing for a while: a view that is
held for ever would let the database's log grow for ever.
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import TimeoutError as NotTaken
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from config.errors import BtError
from daemon.output.columns import Column
from daemon.output.delimited import write_delimited
from daemon.output.json_text import json_object, json_text, write_json_lines
from daemon.output.result_columns import COLUMNS, EVERY, PLAIN
from daemon.output.review_columns import review_columns
from daemon.output.review_words import together
from storage.queries.result_stream import result_stream
from storage.query import Query
from storage.reviews.review_rows import review_rows

if TYPE_CHECKING:
    import sqlalchemy as sa

    from storage.queries.results import ResultRow

Open = Callable[[], AbstractContextManager["sa.Connection"]]

_ROWS = 500  # of one chunk, some hundred kilobytes
_AHEAD = 4  # chunks that wait for the browser
_PATIENCE_SECONDS = 30.0  # with a browser that takes nothing
# At one moment: each holds a thread and a view of the database.
MOST_DOWNLOADS = 4


@dataclass(frozen=True, slots=True)
class Format:
    """A format that is offered: its ending is the last part of the address."""

    media_type: str
    columns: tuple[str, ...]
    chunks: Callable[[Iterable[ResultRow], Sequence[Column], tzinfo], Iterator[str]]


def _delimited(rows: Iterable[ResultRow], columns: Sequence[Column], zone: tzinfo) -> Iterator[str]:
    yield _written(partial(write_delimited, (), columns, zone))
    for batch in _batches(rows):
        yield _written(partial(write_delimited, batch, columns, zone, header=False))


def _array(rows: Iterable[ResultRow], columns: Sequence[Column], zone: tzinfo) -> Iterator[str]:
    yield "["
    before = "\n"
    for batch in _batches(rows):
        yield before + ",\n".join(json_text(json_object(row, columns, zone)) for row in batch)
        before = ",\n"
    yield "]\n" if before == "\n" else "\n]\n"


def _lines(rows: Iterable[ResultRow], columns: Sequence[Column], zone: tzinfo) -> Iterator[str]:
    for batch in _batches(rows):
        yield _written(partial(write_json_lines, batch, columns, zone))


FORMATS = {
    "csv": Format("text/csv; charset=utf-8; header=present", PLAIN, _delimited),
    "json": Format("application/json", EVERY, _array),
    "ndjson": Format("application/x-ndjson", EVERY, _lines),
}


class TooManyDownloadsError(BtError):
    """As many downloads run as are let run at one moment."""


class Downloads:
    """Starts downloads, `MOST_DOWNLOADS` at one moment."""

    def __init__(self, most: int = MOST_DOWNLOADS) -> None:
        self._free = threading.BoundedSemaphore(most)

    def start(self, opened: Open, query: Query, form: str, zone: tzinfo) -> Download:
        """Return the answer that streams a query's results; raises TooManyDownloadsError."""
        if not self._free.acquire(blocking=False):
            raise TooManyDownloadsError("too many downloads are running", hint="try again when one has ended")
        return Download(_Source(opened, query, FORMATS[form], zone), form, self._free.release)


@dataclass(frozen=True, slots=True)
class _Source:
    opened: Open
    query: Query
    form: Format
    zone: tzinfo

    def chunks(self) -> Generator[bytes]:
        """Yield the file in chunks; the database is open as long as this is iterated."""
        columns = [COLUMNS[name] for name in self.form.columns]
        with self.opened() as connection, closing(result_stream(connection, self.query)) as rows:
            if self.form.columns == EVERY or self.query.review is not None:  # as the command does
                columns += review_columns(together(review_rows(connection))).values()
            for text in self.form.chunks(rows, columns, self.zone):
                yield text.encode("utf-8", "backslashreplace")


class Download(StreamingResponse):
    """An answer whose chunks are made by a thread that ends with it."""

    def __init__(self, source: _Source, form: str, ended: Callable[[], None]) -> None:
        self._source = source
        self._ended = ended
        self._stop = threading.Event()
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(_AHEAD)
        self._task: asyncio.Task[Any] | None = None
        self._given_up = False
        name = f"results-{datetime.now(source.zone):%Y%m%d-%H%M%S}.{form}"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        super().__init__(self._body(), headers=headers, media_type=source.form.media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file; the thread ends whatever becomes of it."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._make, args=(loop,), name="download", daemon=True).start()
        self._task = asyncio.current_task()
        try:
            await super().__call__(scope, receive, send)
        except asyncio.CancelledError:
            if not self._given_up:
                raise
        finally:
            self._stop.set()

    async def _body(self) -> AsyncIterator[bytes]:
        while (chunk := await self._queue.get()) is not None:
            if not chunk:
                # The connection is cut, so that half a file is not taken for a whole one.
                raise ConnectionAbortedError("the results could not be read to their end")
            yield chunk

    def _make(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make the chunks, in a thread: the connection to the database belongs to one."""
        try:
            with closing(self._source.chunks()) as chunks:
                for chunk in chunks:
                    if chunk and not self._put(loop, chunk):
                        return
            self._put(loop, None)
        except BtError:
            self._put(loop, b"")
        except Exception:
            self._put(loop, b"")
            raise
        finally:
            self._ended()

    def _put(self, loop: asyncio.AbstractEventLoop, chunk: bytes | None) -> bool:
        """Hand a chunk on; False when nobody takes it any more."""
        if self._stop.is_set() or loop.is_closed():
            return False
        put = asyncio.run_coroutine_threadsafe(self._queue.put(chunk), loop)
        waited = 0.0
        while not self._stop.is_set() and waited < _PATIENCE_SECONDS:
            try:
                put.result(0.5)
            except NotTaken:
                waited += 0.5
            else:
                return True
        put.cancel()
        if not self._stop.is_set():
            self._given_up = True
            if self._task is not None and not loop.is_closed():
                loop.call_soon_threadsafe(self._task.cancel)
        return False


def _batches(rows: Iterable[Any]) -> Iterator[list[Any]]:
    found = iter(rows)
    while batch := list(islice(found, _ROWS)):
        yield batch


def _written(write: Callable[..., object]) -> str:
    stream = io.StringIO(newline="")
    write(stream=stream)
    return stream.getvalue()
