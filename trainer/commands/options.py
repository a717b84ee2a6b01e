"""Options and words that several commands share."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from config.paths import cache_folder
from config.text import DISCLAIMER

if TYPE_CHECKING:
    from trainer.data.dataset import Collection
    from trainer.data.exclusions import Exclusions

FOLDER = click.Path(path_type=Path)
EXCLUDE_LIST = click.option(
    "--exclude-list",
    type=FOLDER,
    metavar="FILE",
    help="CSV (file,use,reason) of images that take no part: use is leave-out, or reject for what is no "
    "image of the kind and serves as an example of what a model must refuse.",
)
GROUPS_OPTION = click.option(
    "--groups",
    type=FOLDER,
    metavar="FILE",
    help="CSV (file,patient; perhaps series,position) that tells whose images they are "
    "(default: DICOM's tags).",
)


def collection_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a click command the options of the images it works on; see `collection_of`."""
    data = click.option(
        "--data", multiple=True, required=True, type=FOLDER, metavar="DIR", help="Folder of class folders."
    )
    merge = click.option(
        "--merge", multiple=True, metavar="NEW=A,B", help="Give folders A and B the class NEW."
    )
    return data(merge(EXCLUDE_LIST(function)))


def collection_of(options: Mapping[str, Any]) -> Collection:
    """Return the images that `collection_options` name."""
    from trainer.data.dataset import Collection, parse_merge

    exclusions = exclusions_of(options["exclude_list"])
    merge = parse_merge(options["merge"])
    return Collection(options["data"], merge, cache_folder(), exclusions, options.get("groups"))


def exclusions_of(path: Path | None) -> Exclusions:
    """Return what the exclude list excludes, nothing without one."""
    from trainer.data.exclusions import NO_EXCLUSIONS, read_exclusions

    return NO_EXCLUSIONS if path is None else read_exclusions(path)


def command_line() -> str:
    """Return the command line as a shell takes it, without what only says how this run was started."""
    once = {"--resume", "--overwrite"}
    return shlex.join(["bt-train", *(word for word in sys.argv[1:] if word not in once)])


def echo_caveats(report: Mapping[str, Any]) -> None:
    """Print to stderr a report's warning, if there is one, and the disclaimer."""
    if report["warning"]:
        click.echo(f"warning: {report['warning']}", err=True)
    click.echo(DISCLAIMER, err=True)
