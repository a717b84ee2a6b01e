"""`bt-daemon show`: one image's whole story."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from config.errors import BtError
from config.options import Invocation, Place, pass_invocation, program_options
from config.store_url import is_store_url
from config.text import printable, printable_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

    import sqlalchemy as sa

    from storage.queries.history import Story
    from storage.queries.results import ResultRow
    from storage.queries.series_rows import SeriesRow
    from storage.reviews.answers import StoredReview


class Everything(NamedTuple):
    """Everything about one image."""

    story: Story
    series: Sequence[SeriesRow]  # that it is part of
    reviews: Sequence[StoredReview]


@click.command(short_help="One image's whole story.")
@click.argument("target", metavar="ID|FILE", type=click.Path(path_type=bytes))
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option(
    "--heatmap",
    type=Place(),
    metavar="FILE",
    help="Draw where the network looked; PNG or JPEG.",
)
@click.option(
    "--model", metavar="NAME|HASH", help="With --heatmap: by this model (default: the one that judged last)."
)
@click.option("--utc", is_flag=True, help="Times in UTC instead of local time.")
@program_options
@pass_invocation
def command(
    invocation: Invocation, target: bytes, as_json: bool, heatmap: Path | None, model: str | None, utc: bool
) -> None:
    r"""Show an image's versions, what each model concluded, what people said, failed attempts, and times.

    FILE is a path as you would open it, or relative to its inbox. A heatmap is drawn by the model that
    judged the image, whatever --weights says; bt-daemon keeps it beside the database.

    \b
    Examples:
      bt-daemon show 17
      bt-daemon show ./inbox/slice.png --json
      bt-daemon show ./inbox/slice.png --heatmap slice-map.png
    """
    from contextlib import closing
    from datetime import UTC

    from config.when import local_zone
    from daemon.output.image_format import picture_format
    from daemon.output.sink import check_place
    from storage.database import open_reader

    form = None if heatmap is None else picture_format(heatmap)
    if heatmap is not None:
        check_place(heatmap)
    zone = UTC if utc else local_zone()
    with closing(open_reader(invocation.settings.db)) as connection:
        stories = _found(connection, target)
        told = [
            Everything(story, _series(connection, story), _reviews(connection, story)) for story in stories
        ]
    _print(told, zone, invocation, as_json=as_json)
    if heatmap is not None and form is not None:
        _draw(invocation, _judged(stories[0], target, model), heatmap, form)


def _judged(story: Story, target: bytes, model: str | None) -> ResultRow:
    """Return the judgement to explain: of the version that was asked for, else of the newest that has one."""
    asked = [version for version in story.versions if target == str(version.id).encode()]
    found = [one for version in asked or story.versions for one in version.results if one.status != "error"]
    if not found:
        raise BtError("no heatmap: the image was not judged", hint="bt-daemon show says why")
    chosen = [one for one in found if model is None or one.model == model or _begins(one, model)]
    if not chosen:
        names = dict.fromkeys(f"{one.model} {one.weights_sha256[:8]}" for one in found)
        raise BtError(f"no heatmap: judged by {printable(', '.join(names))}, not by {printable(str(model))}")
    return chosen[0]


def _begins(row: ResultRow, model: str) -> bool:
    return bool(model) and row.weights_sha256.startswith(model.lower())


def _draw(invocation: Invocation, row: ResultRow, place: Path, form: str) -> None:
    """Draw the heatmap of what was judged, with the model that judged it."""
    from daemon.heatmaps.model_lookup import NOT_HERE, ModelsAtHand
    from daemon.heatmaps.on_demand import heatmaps
    from daemon.heatmaps.thumbnails import judged_file
    from daemon.output.result_columns import model_name
    from daemon.output.sink import binary_sink
    from trainer.images.picture import limits_of

    settings = invocation.settings
    judge = printable(model_name(row))
    prepared = ModelsAtHand(settings).engine(row.weights_sha256)
    if prepared is None:
        raise BtError(f"no heatmap by {judge}: {NOT_HERE}", hint="give its file as --weights or BT_WEIGHTS")
    for _, image in heatmaps([judged_file(row)], prepared, limits_of(settings)):
        with binary_sink(place) as stream:
            image.save(stream, form, quality=92)  # a PNG has no quality
    click.echo(f"heatmap by {judge} written to {printable(str(place))}", err=True)


def _series(connection: sa.Connection, story: Story) -> list[SeriesRow]:
    """Return what is concluded about the series that the newest version is part of."""
    from storage.queries.series_rows import series_rows
    from storage.query import Grouping, Query

    return list(series_rows(connection, Grouping.SERIES, Query(file_id=story.versions[0].id)))


def _reviews(connection: sa.Connection, story: Story) -> list[StoredReview]:
    """Return what people said of each of the versions, newest version first."""
    from storage.reviews.review_rows import reviews_of

    return [review for version in story.versions for review in reviews_of(connection, version.id)]


def _print(told: Sequence[Everything], zone: tzinfo, invocation: Invocation, *, as_json: bool) -> None:
    from daemon.output.facts import style_of
    from daemon.output.json_text import json_text
    from daemon.views.image_history import reviews_as_text, series_as_text, story_as_text
    from daemon.views.listing import footer

    if as_json:
        rows = [_as_dict(one, zone, invocation) for one in told]
        click.echo(json_text(rows[0] if len(rows) == 1 else rows, indent=2))
        return
    style = style_of(invocation)
    texts = [
        story_as_text(one.story, zone, style)
        + reviews_as_text(one.reviews, zone, style)
        + series_as_text(one.series, zone, style)
        for one in told
    ]
    click.echo("\n\n".join(texts))
    footer(invocation)


def _as_dict(one: Everything, zone: tzinfo, invocation: Invocation) -> dict[str, Any]:
    import time

    from daemon.output.json_text import json_object
    from daemon.output.series_columns import series_columns
    from daemon.views.image_history import reviews_as_dicts, story_as_dict

    quiet_us = int(invocation.settings.series_quiet_seconds * 1e6)
    columns = list(series_columns(time.time_ns() // 1000, quiet_us).values())
    return {
        **story_as_dict(one.story, zone),
        "series": [json_object(row, columns, zone) for row in one.series],
        "reviews": reviews_as_dicts(one.reviews, zone),
    }


def _found(connection: sa.Connection, target: bytes) -> list[Story]:
    """Return the stories of an id, else of a path: as given, as it would be opened, with links resolved."""
    from storage.queries.history import story

    if target.isdigit() and len(target) < 19 and (found := story(connection, int(target))):
        return found
    if is_store_url(target) and (found := story(connection, target)):
        return found
    folder, name = os.path.split(os.path.abspath(target))
    for path in dict.fromkeys(
        (os.path.join(folder, name), os.path.join(os.path.realpath(folder), name), target)
    ):
        if found := story(connection, path):
            return found
    raise BtError(
        f"nothing is known of {printable_name(target)}", hint="bt-daemon results -q NAME finds its ID"
    )
