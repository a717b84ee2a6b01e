"""JSON API with the names and words of `bt-daemon results --format json`."""

from __future__ import annotations

import time
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from config.errors import UsageError
from config.text import DISCLAIMER
from daemon.output.json_text import json_object, json_text
from daemon.output.result_columns import COLUMNS, SHORT_HASH
from daemon.output.review_columns import review_columns
from daemon.output.review_words import together
from daemon.output.series_columns import SLICE_COLUMNS, series_columns
from daemon.views.daemon_status import status_as_dict
from daemon.views.health_check import health
from daemon.views.image_history import story_as_dict
from daemon.web.address import PAGE, asked
from daemon.web.html import site_of
from daemon.web.series_pages import listed
from storage.queries.history import story
from storage.queries.results import rows
from storage.queries.series_rows import series_rows, series_summary, slices_of
from storage.queries.totals import ModelSummaryRow, summary_by_model, totals
from storage.query import Grouping, Query
from storage.reviews.review_rows import standing_reviews


def status(request: Request) -> Response:
    """How the daemon is, as `bt-daemon status --json`."""
    site = site_of(request)
    with site.reader() as connection:
        found = site.status(connection)
    judged = health(found, site.zone)
    told = {"health": judged.word.value, "reasons": judged.reasons} | status_as_dict(found, site.zone)
    return json_answer(told)


def results(request: Request) -> Response:
    """A page of results, and where the next one is."""
    site = site_of(request)
    wanted = asked(request.query_params, site.zone)
    most = wanted.query.limit or PAGE
    with site.reader() as connection:
        found = list(rows(connection, replace(wanted.query, limit=most + 1)))
        said = together(standing_reviews(connection, {row.id for row in found}))
    columns = [*COLUMNS.values(), *review_columns(said).values()]
    following = (
        wanted.next_page("/api/results", found[most - 1].key(wanted.query.sort))
        if len(found) > most
        else None
    )
    return json_answer(
        {
            "notice": DISCLAIMER,
            "results": [json_object(row, columns, site.zone) for row in found[:most]],
            "next": following,
        }
    )


def counts(request: Request) -> Response:
    """How many images each model gave which class and status."""
    site = site_of(request)
    wanted = asked(request.query_params, site.zone)
    with site.reader() as connection:
        found = summary_by_model(connection, wanted.query)
        total = totals(connection, wanted.query)
    told = [
        {
            "class": row.label,
            "status": row.status.value,
            "count": row.count,
            "model": _model(row),
        }
        for row in found
    ]
    return json_answer({"notice": DISCLAIMER, "counts": told, **total._asdict()})


def series(request: Request) -> Response:
    """A page of series, studies or patients, how many there are, and where the next page is."""
    site = site_of(request)
    wanted = asked(request.query_params, site.zone)
    if wanted.by is Grouping.IMAGE:
        raise UsageError("by must be one of series, study, patient", hint="/api/results lists images")
    with site.reader() as connection:
        found = listed(connection, wanted)
        counted = series_summary(connection, wanted.by, wanted.query)
    told = [
        {"class": row.label, "status": row.status.value, "count": row.count, "model": _model(row)}
        for row in counted
    ]
    columns = list(series_columns(time.time_ns() // 1000, site.quiet_us).values())
    following = wanted.address("/api/series", page=str(wanted.page + 1)) if found.more else None
    return json_answer(
        {
            "notice": DISCLAIMER,
            "by": wanted.by.value,
            "series": [json_object(row, columns, site.zone) for row in found.rows],
            "total": sum(row.count for row in counted),
            "counts": told,
            "next": following,
        }
    )


def one_series(request: Request) -> Response:
    """One series: what each model concluded, and its slices in their order."""
    site = site_of(request)
    series_id = int(request.path_params["id"])
    with site.reader() as connection:
        verdicts = list(series_rows(connection, Grouping.SERIES, Query(series_id=series_id)))
        slices = {
            one.weights_sha256: slices_of(connection, series_id, one.weights_sha256) for one in verdicts
        }
    if not verdicts:
        return json_answer({"error": f"there is no series {series_id}"}, 404)
    columns = list(series_columns(time.time_ns() // 1000, site.quiet_us).values())
    told = [
        {
            **json_object(row, columns, site.zone),
            "slices_in_order": [
                json_object(one, SLICE_COLUMNS, site.zone) for one in slices[row.weights_sha256]
            ],
        }
        for row in verdicts
    ]
    return json_answer({"notice": DISCLAIMER, "verdicts": told})


def image(request: Request) -> Response:
    """One image's whole story, as `bt-daemon show --format json`."""
    site = site_of(request)
    with site.reader() as connection:
        told = story(connection, int(request.path_params["id"]))
    if not told:
        return json_answer({"error": f"there is no image {request.path_params['id']}"}, 404)
    return json_answer({"notice": DISCLAIMER, **story_as_dict(told[0], site.zone)})


def _model(row: ModelSummaryRow) -> str:
    return f"{row.name} {row.version} {row.weights_sha256[:SHORT_HASH]}"


def json_answer(value: object, status_code: int = 200) -> Response:
    """Return JSON; file names of any bytes come out as in every other JSON of this program."""
    # Lone surrogates, which stand for bytes that are no text, are escapes already.
    return Response(json_text(value) + "\n", status_code, media_type="application/json")
