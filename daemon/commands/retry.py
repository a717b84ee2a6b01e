"""`bt-daemon retry`: give images that were given up another chance."""

from __future__ import annotations

import click

from config.errors import UsageError
from config.options import Invocation, pass_invocation, program_options


@click.command(short_help="Put images that failed back into the queue.")
@click.argument("ids", metavar="[ID]...", nargs=-1, type=click.IntRange(1, 2**63 - 1))
@click.option("--all", "everything", is_flag=True, help="All that were given up or wait for another try.")
@program_options
@pass_invocation
def command(invocation: Invocation, ids: tuple[int, ...], everything: bool) -> int:
    r"""Put images that could not be judged back into the queue, also while a daemon works.

    The running daemon takes them up by itself; without one they wait for the next `watch`.

    \b
    Examples:
      bt-daemon retry 17 42
      bt-daemon retry --all
    """
    if bool(ids) == everything:
        raise UsageError("name the IDs to retry, or --all", hint="bt-daemon errors lists them")
    count = _requeue(invocation, None if everything else list(dict.fromkeys(ids)))
    click.echo(f"{count} image{'' if count == 1 else 's'} put back")
    if not everything and count < len(set(ids)):
        click.echo(
            f"{len(set(ids)) - count} of the IDs are not in trouble (see bt-daemon errors)",
            err=True,
        )
        return 1
    return 0


def _requeue(invocation: Invocation, ids: list[int] | None) -> int:
    from contextlib import closing

    from storage.database import open_reader, open_writer
    from storage.ledger import Ledger

    database = invocation.settings.db
    open_reader(database).close()  # a writer would make what is not there
    with closing(open_writer(database, checkpoints=False)) as connection:
        return Ledger(connection).requeue(ids)
