"""The HTML pages. Each reads what it shows in one view of the database, and renders a template."""

from __future__ import annotations

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from config.errors import BtError
from daemon.heatmaps.model_lookup import NOT_HERE
from daemon.heatmaps.thumbnails import BUSY, NoThumbnail
from daemon.output.facts import Style
from daemon.version import program_version
from daemon.views.daemon_status import Life, drift_text
from daemon.views.health_check import health
from daemon.views.image_history import version_facts
from daemon.views.review_summary import review_summary
from daemon.views.worker_status import remote_worker_facts
from daemon.web.address import PAGE, Asked, asked, inbox_word
from daemon.web.finding import choices
from daemon.web.finding.downloads import FORMATS, Downloads
from daemon.web.finding.search import search
from daemon.web.finding.tiles import ClassLook, tiles
from daemon.web.pages.charts import colour
from daemon.web.pages.overview import Overview, overview
from daemon.web.pages.render import render
from daemon.web.site import Site
from daemon.web.viewer.neighbours import neighbour
from daemon.web.viewer.view import MOST_JUDGED
from storage.queries.history import VersionStory, story, troubled
from storage.queries.results import ResultRow, labels, needs_rows, rows
from storage.queries.series_rows import series_rows, slices_of
from storage.queries.statistics import models as models_behind
from storage.queries.totals import totals
from storage.query import Grouping, Query, Sort
from storage.records import Status
from storage.reviews.review_queue import waiting

THUMBNAIL, LARGE = 96, 512  # pixels
_LATEST = 12
# With more rows than this the charts that need each of them are left out of a page that people wait for.
_MOST_COUNTED = 300_000
_PLAIN = Style(enabled=False)
_LIVES = {
    Life.RUNNING: "running",
    Life.STARTING: "starting",
    Life.SILENT: "silent: busy or stuck",
    Life.STOPPED: "not running",
    Life.DIED: "not running: it ended without saying goodbye",
    Life.NEVER: "not running: none ever ran",
}


def site_of(request: Request) -> Site:
    """Return the site that an application serves."""
    site: Site = request.app.state.site
    return site


def overview_page(request: Request) -> Response:
    """What came in, what was found, how sure it is; its live part renews itself."""
    site = site_of(request)
    with site.reader() as connection:
        known = site.book.different(models_behind(connection, Query()))
    return page("overview.html", site, "overview", models=known, **_live(request, site))


def live_part(request: Request) -> Response:
    """The part of the overview that changes, alone."""
    site = site_of(request)
    return HTMLResponse(render("live.html", site=site, **_live(request, site)))


def results_page(request: Request) -> Response:
    """The results as a table: filters, order, pages."""
    site = site_of(request)
    wanted = asked(request.query_params, site.zone)
    return page("results.html", site, "results", asked=wanted, **_found(request, site, wanted))


def results_part(request: Request) -> Response:
    """The part of the results page that changes with what is searched for, alone."""
    site = site_of(request)
    wanted = asked(request.query_params, site.zone)
    return HTMLResponse(render("found.html", site=site, asked=wanted, **_found(request, site, wanted)))


def results_file(request: Request) -> Response:
    """What is filtered, as a file: the columns and words of `bt-daemon results --format`."""
    site = site_of(request)
    form = str(request.path_params["form"])
    wanted = asked(request.query_params, site.zone)
    with site.reader():
        pass  # what hinders reading is said before a download begins
    downloads: Downloads = request.app.state.downloads
    return downloads.start(site.reader, wanted.query, form, site.zone)


def image_page(request: Request) -> Response:
    """One image's whole story, with its picture and what the network looked at."""
    site = site_of(request)
    file_id = int(request.path_params["id"])
    wanted = asked(request.query_params, site.zone)
    with site.reader() as connection:
        told = story(connection, file_id)
        part_of = list(series_rows(connection, Grouping.SERIES, Query(file_id=file_id)))
        slices = slices_of(connection, part_of[0].id, part_of[0].weights_sha256) if part_of else []
    if not told:
        return message(site, f"there is no image {file_id}", 404)
    judged = _judged(told[0].versions, file_id)
    return page(
        "image.html", site, "results", story=told[0], judged=judged, part_of=part_of,
        drawn=[row for row in judged if row.status is not Status.ERROR],
        versions=[(version, version_facts(version, site.zone, _PLAIN)) for version in told[0].versions],
        asked=wanted, slices=slices, file_id=file_id,
    )  # fmt: skip


def neighbour_page(request: Request) -> Response:
    """Lead to the image before or after one in the list whose filters the address carries.

    Not looked up for every page that is shown: in an order without an index that takes a while.
    """
    site = site_of(request)
    file_id, way = int(request.path_params["id"]), request.path_params["way"]
    wanted = asked(request.query_params, site.zone)
    with site.reader() as connection:
        found = neighbour(connection, wanted.query, file_id, back=way == "previous")
    if found is None:
        end = "last" if way == "next" else "first"
        return message(site, f"that was the {end} image of the list", 404)
    return RedirectResponse(wanted.address(f"/image/{found}"), 303)


def errors_page(request: Request) -> Response:
    """What could not be judged: causes first, then files."""
    site = site_of(request)
    before = request.query_params.get("before", "")
    before_id = int(before) if before.isdecimal() and len(before) < 19 else None
    with site.reader() as connection:
        found = list(troubled(connection, PAGE + 1, before_id))
        figures = overview(connection, Query(statuses=(Status.ERROR,)), most_rows=_MOST_COUNTED)
    files, more = found[:PAGE], len(found) > PAGE
    return page(
        "errors.html", site, "errors", files=files, found=figures, is_first=before_id is None,
        next=f"/errors?before={files[-1].id}" if more else None,
    )  # fmt: skip


def model_page(request: Request) -> Response:
    """The models behind the stored results, and what people said of their answers."""
    site = site_of(request)
    with site.reader() as connection:
        found = overview(connection, Query(), most_rows=0)
        reviews = review_summary(connection, Query(), site.book.card)
    return page("model.html", site, "model", found=found, reviews=reviews)


def picture(request: Request) -> Response:
    """A result's picture as WebP, plain or with the heatmap over it.

    404 with the reason if there is none; 503 while others are being drawn, and whoever asks again gets it.
    """
    site = site_of(request)
    side = THUMBNAIL if request.query_params.get("size") == "small" else LARGE
    with site.reader() as connection:
        model = request.query_params.get("model") or None
        query = Query(file_id=int(request.path_params["id"]), model=model, limit=1)
        row = next(iter(list(rows(connection, query))), None)
    drawn = NoThumbnail("there is no such image") if row is None else site.gallery.of(row, side)
    if isinstance(drawn, NoThumbnail):
        if drawn.reason == BUSY:
            return Response(BUSY, 503, {"retry-after": "1"}, media_type="text/plain")
        return Response(drawn.reason, 404, media_type="text/plain")
    data = drawn.heatmap if request.path_params["kind"] == "heatmap" else drawn.plain
    if data is None:
        why = NOT_HERE if row is None else site.book.of(row.weights_sha256).no_heatmap or NOT_HERE
        return Response(f"no heatmap: {why}", 404, media_type="text/plain")
    return Response(data, media_type="image/webp")


def message(site: Site, text: str, status: int, hint: str = "") -> Response:
    """Return a page that says one thing."""
    page = render("message.html", site=site, here="", text=text, hint=hint, version=program_version())
    return HTMLResponse(page, status)


def failure(site: Site, error: BtError, status: int) -> Response:
    """Return the page for an error of ours."""
    return message(site, error.what, status, error.hint or "")


def page(template: str, site: Site, here: str, **values: object) -> Response:
    """Return a page made from a template; `here` is its place among the links at its top."""
    return HTMLResponse(render(template, site=site, here=here, version=program_version(), **values))


def _found(request: Request, site: Site, wanted: Asked) -> dict[str, object]:
    """Return what `found.html` shows."""
    with site.reader() as connection:
        found = search(connection, replace(wanted.query, limit=wanted.query.limit or PAGE))
        known = labels(connection)
        everything = replace(wanted.query, after=None)
        is_quick = found.total <= _MOST_COUNTED and not needs_rows(everything)
        total = totals(connection, everything) if is_quick else None
    rows = found.page.rows
    words = {path: inbox_word(path) for one in found.facets.inboxes if isinstance(path := one.word, bytes)}
    return {
        "found": found,
        "images": total,
        "rows": rows,
        "labels": known,
        "groups": choices.groups(found.facets, wanted, words),
        "headings": choices.headings(wanted),
        "times": choices.times(wanted),
        "forms": FORMATS,
        "next": wanted.next_page("/results", rows[-1].key(wanted.query.sort)) if found.page.more else None,
        "is_first": "after" not in request.query_params,
    }


def _live(request: Request, site: Site) -> dict[str, object]:
    wanted = asked(request.query_params, site.zone, since="today")
    with site.reader() as connection:
        status = site.status(connection)
        query = replace(wanted.query, limit=_LATEST, after=None)
        found = overview(connection, query, most_rows=_MOST_COUNTED)
        # Whatever the time that is looked at: what came yesterday waits still.
        waits = waiting(connection, Query(model=wanted.query.model))
        return {
            "asked": wanted,
            "status": status,
            "life": _LIVES[status.life],
            "health": health(status, site.zone),
            "drift": drift_text(status),
            "workers": remote_worker_facts(status.told_alive, status.now_us),
            "found": found,
            "tiles": tiles(found, wanted, waits.uncertain, _looks(site, found)),
            "latest": list(rows(connection, replace(query, sort=Sort.TIME, reverse=False))),
        }


def _looks(site: Site, found: Overview) -> dict[str, ClassLook]:
    """Return each class's colour and words."""
    positives = site.book.positives(found.models)
    return {
        label: ClassLook(
            colour(label, Status.OK, found.labels, positives), site.book.meaning(label, found.models)
        )
        for label in found.labels
    }


def _judged(versions: tuple[VersionStory, ...], file_id: int) -> tuple[ResultRow, ...]:
    """Return the results of the version that was asked for, one per model; without any the latest."""
    asked = [version.results for version in versions if version.id == file_id and version.results]
    others = [version.results for version in versions if version.results]
    return next(iter([*asked, *others]), ())[:MOST_JUDGED]
