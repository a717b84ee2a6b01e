"""Write the HTML report: one file about what came in, for `bt-daemon report`.

It opens offline and carries nothing that runs but its own sorting script, which its content security
policy names by hash. What was left out to keep it small is said in it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from daemon.heatmaps.renderers import ModelRenderers
from daemon.heatmaps.thumbnails import NoThumbnail
from daemon.output.cells import clock_time
from daemon.version import program_version
from daemon.views.review_summary import review_summary
from daemon.web.pages.overview import overview
from daemon.web.pages.render import STATIC, ModelBook, render
from storage.queries.results import ResultRow, rows
from storage.queries.series_rows import series_rows
from storage.query import Grouping, Query
from storage.records import Status

if TYPE_CHECKING:
    import sqlalchemy as sa

_MOST_SERIES = 1_000
SIDE = 192  # pixels of a picture; two of them stand beside each other on a card


@dataclass(frozen=True, slots=True)
class Item:
    """One image of the gallery."""

    row: ResultRow
    plain: str  # WebP in base64, "" without a picture
    heatmap: str
    why: str  # there is no picture


@dataclass(frozen=True, slots=True)
class Framing:
    """What stands around the figures."""

    book: ModelBook
    zone: tzinfo
    written: datetime
    filters: str  # in words, "" without any


def write_report(
    connection: sa.Connection,
    query: Query,
    framing: Framing,
    pictures: ModelRenderers | None,
    most: int,
    drawn: Callable[[int, int], None],
) -> str:
    """Return the page about a query's results with at most `most` images in the gallery.

    Errors stand among the reasons, not in the gallery. `drawn` is called with how many pictures are
    done and how many there will be. Without `pictures` the gallery holds names only.
    """
    found = overview(connection, query)
    drawable = query.statuses or tuple(Status)
    drawable = tuple(status for status in drawable if status is not Status.ERROR)
    wanted = list(rows(connection, replace(query, statuses=drawable, limit=most))) if drawable else []
    items = list(_items(wanted, pictures, drawn))
    series = list(series_rows(connection, Grouping.SERIES, replace(query, limit=_MOST_SERIES)))
    shown = found.totals.judgements - found.errors
    style, script = ((STATIC / name).read_text() for name in ("style.css", "report.js"))
    return render(
        "report.html",
        found=found,
        items=items,
        series=series,
        series_left_out=sum(one.total for one in found.series) - len(series),
        left_out=max(0, shown - len(items)),
        reviews=review_summary(connection, query, framing.book.card),
        book=framing.book,
        zone=framing.zone,
        range=_range(query, found.first_us, found.last_us, framing.zone),
        filters=framing.filters,
        written=f"{framing.written.astimezone(framing.zone):%Y-%m-%d %H:%M%z}",
        version=program_version(),
        **_inline("style", style),
        **_inline("script", script),
    )


def _items(
    found: list[ResultRow], pictures: ModelRenderers | None, drawn: Callable[[int, int], None]
) -> Iterator[Item]:
    for number, row in enumerate(found):
        if pictures is None:
            yield Item(row, "", "", "no picture asked for")
            continue
        picture = pictures.of(row, SIDE)
        drawn(number + 1, len(found))
        if isinstance(picture, NoThumbnail):
            yield Item(row, "", "", picture.reason)
        else:
            yield Item(row, _base64(picture.plain), _base64(picture.heatmap or b""), "")


def _range(query: Query, first_us: int | None, last_us: int | None, zone: tzinfo) -> str:
    begin = query.since_us if query.since_us is not None else first_us
    end = query.until_us if query.until_us is not None else last_us
    if begin is None or end is None:
        return "no results"
    return f"{clock_time(begin, zone)} to {clock_time(max(begin, end), zone)}"


def _inline(name: str, text: str) -> dict[str, Any]:
    """Return a file of ours to stand in the page, and its hash for the policy."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return {name: Markup(text), f"{name}_hash": f"sha256-{digest}"}  # noqa: S704 - a file of this package


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
