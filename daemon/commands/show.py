"""`bt-daemon show`: one image's whole story."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from config.errors import BtError
from config.options import Invocation, pass_invocation, program_options
from config.text import printable_name

if TYPE_CHECKING:
    import sqlalchemy as sa

    from storage.stories import Story


@click.command(short_help="One image's whole story.")
@click.argument("target", metavar="ID|FILE", type=click.Path(path_type=bytes))
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option(
    "--heatmap", type=click.Path(path_type=Path), metavar="PNG", help="Draw where the network looked."
)
@click.option("--utc", is_flag=True, help="Times in UTC instead of local time.")
@program_options
@pass_invocation
def command(invocation: Invocation, target: bytes, as_json: bool, heatmap: Path | None, utc: bool) -> None:
    r"""Show an image's versions, what each model concluded, failed attempts, and times.

    FILE is a path as you would open it, or relative to its inbox.

    \b
    Examples:
      bt-daemon show 17
      bt-daemon show ./inbox/slice.png --json
      bt-daemon show ./inbox/slice.png --heatmap slice-map.png
    """
    from contextlib import closing
    from datetime import UTC

    from daemon.image_story import story_as_dict, story_as_text
    from daemon.listing import footer
    from daemon.output.facts import style_of
    from daemon.output.json_text import json_text
    from storage.database import open_reader
    from storage.when import local_zone

    zone = UTC if utc else local_zone()
    with closing(open_reader(invocation.settings.db)) as connection:
        stories = _found(connection, target)
    if heatmap is not None:
        _draw(invocation, stories[0], heatmap)
    if as_json:
        told = [story_as_dict(story, zone) for story in stories]
        click.echo(json_text(told[0] if len(told) == 1 else told, indent=2))
        return
    style = style_of(invocation)
    click.echo("\n\n".join(story_as_text(story, zone, style) for story in stories))
    footer(invocation)


def _draw(invocation: Invocation, story: Story, place: Path) -> None:
    """Draw the heatmap of the file as it is now, with the model of the settings."""
    from daemon.classify import quiet_logger
    from daemon.heatmaps import heatmaps
    from daemon.output.sink import binary_sink
    from daemon.session import limits_of, ready_engine

    settings = invocation.settings
    prepared, _ = ready_engine(settings, quiet_logger())
    path = story.versions[0].moved_to or os.path.join(story.inbox, story.path)
    for _, image in heatmaps([path], prepared, limits_of(settings)):
        with binary_sink(place) as stream:
            image.save(stream, "PNG")
    click.echo(f"heatmap written to {click.format_filename(place)}", err=True)


def _found(connection: sa.Connection, target: bytes) -> list[Story]:
    """Return the stories of an id, else of a path: as given, as it would be opened, with links resolved."""
    from storage.stories import story

    if target.isdigit() and len(target) < 19 and (found := story(connection, int(target))):
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
