"""`bt-daemon demo`: the main job on a machine that has no images, from folder to results."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from config.folders import made_folder
from config.options import Invocation, Place, pass_invocation, program_options, setting_options
from config.text import DISCLAIMER, printable

# Enough to show both classes and an error row, few enough to be read at a glance.
HEADS = 6


@click.command()
@click.option(
    "--keep",
    type=Place(),
    metavar="DIR",
    help="Keep inbox and database here.  [default: a folder that is deleted]",
)
@setting_options("weights", "device", "precision", "cache")
@program_options
@pass_invocation
def command(invocation: Invocation, keep: Path | None) -> int:
    r"""Make an inbox of synthetic sample images, run the real daemon over it, print the results.

    \b
    Examples:
      bt-daemon demo
      bt-daemon demo --keep ./demo
    """
    if keep is not None:
        return _demonstrate(invocation, made_folder(keep, "--keep"))
    with tempfile.TemporaryDirectory(prefix="bt-daemon-demo-") as folder:
        return _demonstrate(invocation, Path(folder))


def _demonstrate(invocation: Invocation, folder: Path) -> int:
    from daemon.commands.results import command as results
    from daemon.service.compose import watch

    inbox = folder / "inbox"
    fill(inbox)
    number, place = len(list(inbox.iterdir())), printable(str(inbox))
    click.echo(f"Made {number} synthetic sample files in {place} (drawings, nobody's head).", err=True)
    invocation.flags["db"] = str(folder / "demo.db")
    invocation.flags.setdefault("settle", "0s")
    code = watch(invocation, (inbox,), once=True)
    if code:
        return code
    database = str(folder / "demo.db")
    results.main(["--since", "today", "--db", database], prog_name="bt-daemon results", standalone_mode=False)
    click.echo(
        "The model was trained on real slices; what it says of drawings shows only that the way works.\n"
        + DISCLAIMER,
        err=True,
    )
    return 0


def fill(inbox: Path) -> None:
    """Write the sample files: heads with and without a bright lesion, and a text file named .jpg."""
    from trainer.images.phantom import phantom

    made_folder(inbox, "--keep")
    for number in range(HEADS):
        lesion = number % 2 == 1
        name = f"synthetic-{number + 1}-{'lesion' if lesion else 'plain'}.png"
        phantom(number, lesion=lesion).save(inbox / name)
    (inbox / "not-an-image.jpg").write_text("This is text, whatever its name says.\n")
