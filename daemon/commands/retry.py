"""`bt-daemon retry`: give images that were given up another chance."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from config.errors import UsageError
from config.options import Invocation, pass_invocation, program_options
from config.text import printable_name

if TYPE_CHECKING:
    from daemon.service.move import Homecoming
    from storage.ledger.ledger import Ledger
    from storage.ledger.moves import MovedAway


@click.command(short_help="Put images that failed back into the queue.")
@click.argument("ids", metavar="[ID]...", nargs=-1, type=click.IntRange(1, 2**63 - 1))
@click.option("--all", "everything", is_flag=True, help="All that were given up or wait for another try.")
@program_options
@pass_invocation
def command(invocation: Invocation, ids: tuple[int, ...], everything: bool) -> int:
    r"""Put images that could not be judged back into the queue, also while a daemon works.

    The running daemon takes them up by itself; without one they wait for the next `watch`. What lies in a
    quarantine folder is brought back to its place in the inbox, mended or not.

    \b
    Examples:
      bt-daemon retry 17 42
      bt-daemon retry --all
    """
    if bool(ids) == everything:
        raise UsageError("name the IDs to retry, or --all", hint="bt-daemon errors lists them")
    count, stayed = _requeue(invocation, None if everything else sorted(set(ids)))
    click.echo(f"{count} image{'' if count == 1 else 's'} put back")
    strangers = 0 if everything else len(set(ids)) - count - stayed
    if strangers:
        click.echo(f"{strangers} of the IDs are not in trouble (see bt-daemon errors)", err=True)
    return int(bool(strangers or stayed))


def _requeue(invocation: Invocation, ids: list[int] | None) -> tuple[int, int]:
    """Return how many images were put back, and how many stay in a quarantine folder."""
    from contextlib import closing

    from storage.database import open_reader, open_writer
    from storage.ledger.ledger import Ledger

    database = invocation.settings.db
    open_reader(database).close()  # a writer would make what is not there
    with closing(open_writer(database, checkpoints=False)) as connection:
        ledger = Ledger(connection)
        count = ledger.requeue(ids)
        home = [_brought_home(ledger, each) for each in ledger.moves.away(ids)]
        return count + sum(home), len(home) - sum(home)


def _brought_home(ledger: Ledger, away: MovedAway) -> bool:
    """Bring a file back from the quarantine folder; say so in one line if that cannot be.

    The ledger's lock is held from the first step on: else a daemon that sees the file arrive would take a
    mended one for a new version.
    """
    from daemon.service.move import MoveError, bring_home

    home: Homecoming | None = None
    try:
        with ledger.transaction():
            home = bring_home(away.root, away.version, away.moved_to)
            if home is not None:
                ledger.came_home(away.file_id, home.version)
    except MoveError as error:
        _stays(away, error.reason)
        return False
    except BaseException:
        if home is not None:
            home.undo()
        raise
    if home is None:
        _stays(away, "it is not there any more")
        return False
    home.finish()
    return True


def _stays(away: MovedAway, why: str) -> None:
    click.echo(
        f"{away.file_id} in {printable_name(away.moved_to)} cannot be brought back to "
        f"{printable_name(os.path.join(away.root, away.version.path))}: {why}",
        err=True,
    )
