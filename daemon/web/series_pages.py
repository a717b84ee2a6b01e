"""Pages of series, studies and patients: a list, and one series with its slices in their order."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import tzinfo
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from daemon.output.cells import ago, clock_time
from daemon.output.words import rests_on
from daemon.web.address import Asked, asked
from daemon.web.html import message, page, site_of
from daemon.web.viewer.view import SHORT
from storage.queries.results import labels
from storage.queries.series_rows import SeriesRow, series_count, series_rows, slices_of
from storage.queries.statistics import models as models_behind
from storage.query import Grouping, Query, Sort
from storage.records import Status

if TYPE_CHECKING:
    import sqlalchemy as sa

SLICES = 60  # of a strip
_SORTS = [one for one in Sort if one is not Sort.ID]


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of a list of series, studies or patients."""

    rows: list[SeriesRow]
    more: bool


def listed(connection: sa.Connection, wanted: Asked) -> Listing:
    """Return the page of a list that is asked for."""
    most = wanted.query.limit or 1
    query = replace(wanted.query, limit=most + 1, after=None)
    found = list(series_rows(connection, wanted.by, query, (wanted.page - 1) * most))
    return Listing(found[:most], len(found) > most)


def series_page(request: Request) -> Response:
    """What is concluded about series, studies or patients: filters, order, pages."""
    site = site_of(request)
    wanted = asked(request.query_params, site.zone)
    if wanted.by is Grouping.IMAGE:
        wanted = replace(wanted, by=Grouping.SERIES)
    with site.reader() as connection:
        found = listed(connection, wanted)
        total = series_count(connection, wanted.by, wanted.query)
        known = labels(connection)
        models = site.book.different(models_behind(connection, Query()))
    return page(
        "series.html", site, "series",
        asked=wanted, rows=found.rows, total=total, labels=known, models=models,
        sorts=_SORTS, statuses=[one for one in Status if one is not Status.ERROR],
        groupings=[one for one in Grouping if one is not Grouping.IMAGE], now_us=_now_us(),
        next=wanted.address("/series", page=str(wanted.page + 1)) if found.more else None,
    )  # fmt: skip


def one_series_page(request: Request) -> Response:
    """One series: its verdict, what that rests on, and its slices in their order."""
    site = site_of(request)
    series_id = int(request.path_params["id"])
    wanted = asked(request.query_params, site.zone)
    with site.reader() as connection:
        verdicts = list(series_rows(connection, Grouping.SERIES, Query(series_id=series_id)))
        chosen = _chosen(verdicts, wanted.query.model)
        slices = [] if chosen is None else slices_of(connection, series_id, chosen.weights_sha256)
        known = labels(connection)
    if chosen is None:
        return message(site, f"there is no series {series_id}", 404)
    first = (wanted.page - 1) * SLICES
    return page(
        "one_series.html", site, "series",
        row=chosen, others=[one for one in verdicts if one is not chosen], labels=known,
        slices=slices, listed=slices[first : first + SLICES], first=first, facts=_facts(chosen, site.zone),
        complete=completeness(chosen, _now_us(), site.quiet_us), asked=wanted,
        more=first + SLICES < len(slices), viewed_id=chosen.decisive_file_id, viewed=_viewed(chosen),
    )  # fmt: skip


def _viewed(row: SeriesRow) -> str | None:
    """Return the address of what the viewer shows first: the file that says it loudest."""
    if row.decisive_file_id is None:
        return None
    return f"/api/view/{row.decisive_file_id}?model={row.weights_sha256[:SHORT]}"


def completeness(row: SeriesRow, now_us: int, quiet_us: int) -> str:
    """Return in words whether more slices are expected."""
    quiet = ago(quiet_us / 1e6)
    if row.is_complete(now_us, quiet_us):
        return f"complete: nothing has come for {quiet} and longer"
    last = ago((now_us - row.touched_us) / 1e6)
    return f"not complete yet: the last slice came {last} ago, and it is complete after {quiet} without any"


def _facts(row: SeriesRow, zone: tzinfo) -> list[tuple[str, str]]:
    return [
        ("rests on", rests_on(row)),
        ("first slice", clock_time(row.first_us, zone)),
        ("last touched", clock_time(row.touched_us, zone)),
    ]


def _chosen(verdicts: list[SeriesRow], model: str | None) -> SeriesRow | None:
    """Return the verdict by the model that was asked for, else the one touched last."""
    asked_for = [
        one for one in verdicts if model and (one.weights_sha256.startswith(model) or one.model == model)
    ]
    return next(iter(asked_for if model else verdicts), None)


def _now_us() -> int:
    return time.time_ns() // 1000
