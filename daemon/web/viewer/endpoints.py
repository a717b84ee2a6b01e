"""HTTP endpoints of the viewer: a slice's pixels, a model's map of it, and what stands around them.

Pixels come raw, little-endian, with their facts as JSON in the header `x-picture`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from starlette.requests import Request
from starlette.responses import Response

from config.errors import UsageError
from config.text import DISCLAIMER
from daemon.heatmaps.raw_picture import RawPicture
from daemon.heatmaps.thumbnails import BUSY, NoThumbnail, judged_file
from daemon.output.json_text import json_text
from daemon.web.viewer.slice_reader import SliceReader, WantedSlice
from daemon.web.viewer.view import judged_rows, told_view

if TYPE_CHECKING:
    import sqlalchemy as sa

    from daemon.heatmaps.model_lookup import ModelsAtHand
    from daemon.web.pages.render import ModelBook
    from storage.queries.results import ResultRow

FACTS = "x-picture"
_MOST_DIGITS = 6  # of a slice's number
_MODEL_DIGITS = range(8, 65)  # of a weights' hash


@dataclass(frozen=True, slots=True)
class Viewer:
    """What the viewer's answers are made from."""

    models: ModelsAtHand
    reader: SliceReader
    heat: Callable[[ResultRow, int], RawPicture | NoThumbnail]  # of a result's file, which slice


class _Site(Protocol):
    viewer: Viewer
    book: ModelBook

    def reader(self) -> AbstractContextManager[sa.Connection]: ...


def pixels(request: Request) -> Response:
    """One slice with its own tones; 404 with the reason where the file has changed or is gone."""
    site: _Site = request.app.state.site
    row = _row(request, site)
    if row is None:
        return _no("there is no such image, or it was not judged")
    spec = site.viewer.models.spec(row.weights_sha256)
    wanted = WantedSlice(judged_file(row), _slice(request, row), None if spec is None else spec.preprocessing)
    return _raw(site.viewer.reader.read(wanted))


def heat(request: Request) -> Response:
    """What a model sees in one slice, as a layer; 404 with the reason where that is not drawn."""
    site: _Site = request.app.state.site
    row = _row(request, site)
    if row is None:
        return _no("there is no such image, or it was not judged")
    return _raw(site.viewer.heat(row, _slice(request, row)))


def view(request: Request) -> Response:
    """What the viewer shows of one image: the answers to it, and its series in order."""
    site: _Site = request.app.state.site
    with site.reader() as connection:
        told = told_view(connection, site.book, int(request.path_params["id"]), _model(request))
    if told is None:
        return _no("there is no such image, or it was not judged")
    return _json({"notice": DISCLAIMER, **told}, 200)


def _row(request: Request, site: _Site) -> ResultRow | None:
    with site.reader() as connection:
        found = judged_rows(connection, int(request.path_params["id"]), _model(request))
    return next(iter(found), None)


def _model(request: Request) -> str | None:
    word = request.query_params.get("model", "")
    if word and not (len(word) in _MODEL_DIGITS and word.isascii() and word.isalnum()):
        raise UsageError("model must be the first 8 or more digits of a weights' hash")
    return word or None


def _slice(request: Request, row: ResultRow) -> int:
    """Return which slice is asked for, counted from 0; the one that decided unless said."""
    word = request.query_params.get("slice", "")
    if not word:
        return row.slice_index or 0
    if not (word.isascii() and word.isdecimal() and len(word) <= _MOST_DIGITS):
        raise UsageError("slice must be a number from 0")
    return int(word)


def _raw(answer: RawPicture | NoThumbnail) -> Response:
    if isinstance(answer, RawPicture):
        facts = {FACTS: json.dumps(answer.facts)}
        return Response(answer.pixels, media_type="application/octet-stream", headers=facts)
    return _busy() if answer.reason == BUSY else _no(answer.reason)


def _busy() -> Response:
    found = _json({"error": BUSY}, 503)
    found.headers["retry-after"] = "1"
    return found


def _no(reason: str) -> Response:
    return _json({"error": reason}, 404)


def _json(value: object, status: int) -> Response:
    return Response(json_text(value) + "\n", status, media_type="application/json")
