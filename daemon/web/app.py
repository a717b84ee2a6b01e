"""Web application: routes, and what errors look like."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from config.errors import BtError, DatabaseError, UsageError
from daemon.web import api, health_endpoints, review_pages, series_pages, uploads
from daemon.web import html as pages
from daemon.web.finding.downloads import FORMATS, Downloads, TooManyDownloadsError
from daemon.web.guard import Guard, Rules
from daemon.web.pages.render import STATIC
from daemon.web.site import Site
from daemon.web.viewer import endpoints as viewer
from storage.database_errors import DatabaseMissingError


class _RowId(Convertor[int]):
    """Digits that are a row's number; more than a database can hold are no address."""

    regex = "[0-9]{1,18}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


class _Word(Convertor[str]):
    """One of some words."""

    regex = "previous|next"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _FormatName(_Word):
    """The name of a format that results are downloaded in."""

    regex = "|".join(FORMATS)


register_url_convertor("row", _RowId())
register_url_convertor("form", _FormatName())
register_url_convertor("way", _Word())
_KINDS = {".css": "text/css", ".js": "text/javascript"}
# All but the script of the report, which is a file by itself.
_STATIC = {one.name: _KINDS[one.suffix] for one in STATIC.iterdir() if one.name != "report.js"}
# What people write, and what they need for it.
_WRITING = (
    Route("/api/review", review_pages.add_review, methods=["POST"]),
    Route("/api/review/undo", review_pages.undo_review, methods=["POST"]),
    Route("/api/upload", uploads.take_upload, methods=["POST"]),
    Route("/api/upload/state", uploads.upload_state),
    Route("/api/upload/inboxes", uploads.inboxes),
)


def make_app(site: Site, rules: Rules) -> Guard:
    """Return the application that shows a site to those whom the rules let in."""
    app = Starlette(
        routes=[
            Route("/", pages.overview_page),
            Route("/live", pages.live_part),
            Route("/results", pages.results_page),
            Route("/results/part", pages.results_part),
            Route("/results.{form:form}", pages.results_file),
            Route("/image/{id:row}", pages.image_page),
            Route("/image/{id:row}/{kind}.webp", pages.picture),
            Route("/image/{id:row}/{way:way}", pages.neighbour_page),
            Route("/series", series_pages.series_page),
            Route("/series/{id:row}", series_pages.one_series_page),
            Route("/errors", pages.errors_page),
            Route("/model", pages.model_page),
            Route("/api/status", api.status),
            Route("/api/results", api.results),
            Route("/api/counts", api.counts),
            Route("/api/image/{id:row}", api.image),
            Route("/api/series", api.series),
            Route("/api/series/{id:row}", api.one_series),
            Route("/api/view/{id:row}", viewer.view),
            Route("/api/pixels/{id:row}", viewer.pixels),
            Route("/api/heat/{id:row}", viewer.heat),
            Route("/review", review_pages.review_page),
            Route("/api/review/next", review_pages.next_candidates),
            *_WRITING,
            Route("/healthz", health_endpoints.alive),
            Route("/readyz", health_endpoints.ready),
            Route("/metrics", health_endpoints.scrape),
            Route("/static/{name}", _static),
            Route("/favicon.ico", lambda _: Response(status_code=204)),
        ],
        exception_handlers={BtError: _told, HTTPException: _http, OverflowError: _too_large},
    )
    app.state.site = site
    app.state.downloads = Downloads()
    # Outside of everything, so that even the answer to a fault of ours has its headers.
    return Guard(app, rules)


def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _STATIC:
        raise HTTPException(404)
    return FileResponse(STATIC / name, media_type=_STATIC[name])


def _told(request: Request, error: Exception) -> Response:
    """Answer with an error of ours: in one line to a program, as a page to a person."""
    assert isinstance(error, BtError)
    later = isinstance(error, DatabaseError | TooManyDownloadsError)
    status = 400 if isinstance(error, UsageError) else 503 if later else 500
    if request.url.path.startswith("/api/"):
        return api.json_answer({"error": error.what, "hint": error.hint}, status)
    if isinstance(error, DatabaseMissingError):
        return pages.message(
            pages.site_of(request),
            "no results yet",
            status,
            "start bt-daemon watch DIR; this page will show them",
        )
    return pages.failure(pages.site_of(request), error, status)


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = "there is nothing at this address" if error.status_code == 404 else error.detail
    if request.url.path.startswith("/api/"):
        return api.json_answer({"error": text}, error.status_code)
    return pages.message(pages.site_of(request), text, error.status_code)


def _too_large(request: Request, _: Exception) -> Response:
    """Answer for an id that no database can hold."""
    return _http(request, HTTPException(404))
