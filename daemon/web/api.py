"""JSON API with the names and words of `bt-daemon results --format json`."""

from __future__ import annotations

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from config.text import DISCLAIMER
from daemon.output.json_text import json_object, json_text
from daemon.output.result_columns import COLUMNS, SHORT_HASH
from daemon.views.daemon_status import status_as_dict
from daemon.views.health_check import health
from daemon.views.image_history import story_as_dict
from daemon.web.address import PAGE, asked
from daemon.web.html import site_of
from storage.queries.history import story
from storage.queries.results import rows
from storage.queries.totals import summary_by_model, totals


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
    columns = list(COLUMNS.values())
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
            "model": f"{row.name} {row.version} {row.weights_sha256[:SHORT_HASH]}",
        }
        for row in found
    ]
    return json_answer({"notice": DISCLAIMER, "counts": told, **total._asdict()})


def image(request: Request) -> Response:
    """One image's whole story, as `bt-daemon show --format json`."""
    site = site_of(request)
    with site.reader() as connection:
        told = story(connection, int(request.path_params["id"]))
    if not told:
        return json_answer({"error": f"there is no image {request.path_params['id']}"}, 404)
    return json_answer({"notice": DISCLAIMER, **story_as_dict(told[0], site.zone)})


def json_answer(value: object, status_code: int = 200) -> Response:
    """Return JSON; file names of any bytes come out as in every other JSON of this program."""
    # Lone surrogates, which stand for bytes that are no text, are escapes already.
    return Response(json_text(value) + "\n", status_code, media_type="application/json")
