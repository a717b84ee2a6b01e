"""`bt-daemon status`: whether a daemon works on this database, and how it is."""

from __future__ import annotations

import click

from config.options import Invocation, pass_invocation, program_options


@click.command(short_help="Whether a daemon runs, and how it is.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--utc", is_flag=True, help="Times in UTC instead of local time.")
@program_options
@pass_invocation
def command(invocation: Invocation, as_json: bool, utc: bool) -> None:
    r"""Show whether a daemon runs on this database, since when, and what waits.

    \b
    Examples:
      bt-daemon status
      bt-daemon status --json --db results.db
    """
    import time
    from datetime import UTC

    from daemon.daemon_status import daemon_status, status_as_dict, status_as_text
    from daemon.lock import lock_owner
    from daemon.output.facts import style_of
    from daemon.output.json_text import json_text
    from daemon.reader import reader
    from storage.database import database_path
    from storage.heartbeat import status_snapshot
    from storage.when import local_zone

    path = database_path(invocation.settings.db).absolute()
    now_us = time.time_ns() // 1000
    with reader(invocation) as connection:
        stored = None if connection is None else status_snapshot(connection, now_us, with_totals=True)
    status = daemon_status(stored, lock_owner(path), str(path), now_us)
    zone = UTC if utc else local_zone()
    if as_json:
        click.echo(json_text(status_as_dict(status, zone), indent=2))
    else:
        click.echo(status_as_text(status, zone, style_of(invocation)))
