"""`bt-daemon status`: whether a daemon works on this database, and how it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from config.options import Invocation, pass_invocation, program_options

if TYPE_CHECKING:
    from daemon.views.daemon_status import DaemonStatus


@click.command(short_help="Whether a daemon runs, and how it is.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--check", is_flag=True, help="One line, and an exit code for monitoring.")
@click.option("--utc", is_flag=True, help="Times in UTC instead of local time.")
@program_options
@pass_invocation
def command(invocation: Invocation, as_json: bool, check: bool, utc: bool) -> int:
    r"""Show whether a daemon runs on this database, since when, and what waits.

    With --check one line says how it is and why, and so does the exit code. 0: healthy. 1: degraded, that
    is, it works but an inbox is degraded, the database takes nothing, no worker is ready, workers hang or are
    being replaced, moves are stuck, or it is only starting. 2: down, that is, none ever ran, it was stopped,
    it died, or its loop has not turned for 15 seconds. 3: the database cannot be read. Without --check the
    exit code is 0 whatever the daemon does. `bt-daemon web` answers the same as /healthz, /readyz, /metrics.

    \b
    Examples:
      bt-daemon status
      bt-daemon status --json --db results.db
      bt-daemon status --check || echo "look after it"
    """
    from datetime import UTC

    from config.when import local_zone
    from daemon.output.facts import style_of
    from daemon.output.json_text import json_text
    from daemon.views.daemon_status import status_as_dict, status_as_text
    from daemon.views.health_check import health

    status = _status(invocation, missing_is_down=check)
    zone = UTC if utc else local_zone()
    found = health(status, zone)
    if as_json:
        told = {"health": found.word.value, "reasons": found.reasons} | status_as_dict(status, zone)
        click.echo(json_text(told, indent=2))
    else:
        judgements = [("health", str(found))]
        style = style_of(invocation)
        click.echo(str(found) if check else status_as_text(status, zone, style, judgements=judgements))
    return found.exit_code if check else 0


def _status(invocation: Invocation, *, missing_is_down: bool) -> DaemonStatus:
    import time

    from daemon.views.daemon_status import daemon_status
    from daemon.views.reader import reader
    from storage.database import shown_place
    from storage.database_errors import DatabaseMissingError
    from storage.lock import lock_holder
    from storage.queries.status import status_snapshot

    database = invocation.settings.db
    now_us = time.time_ns() // 1000
    try:
        with reader(invocation) as connection:
            stored = (
                None
                if connection is None
                else status_snapshot(connection, now_us, with_totals=not missing_is_down)
            )
    except DatabaseMissingError:
        if not missing_is_down:
            raise
        stored = None
    return daemon_status(stored, lock_holder(database), shown_place(database), now_us)
