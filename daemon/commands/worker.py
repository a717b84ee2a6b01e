"""`bt-daemon worker`: judge images for the daemon of another machine."""

from __future__ import annotations

from pathlib import Path

import click

from config.errors import UsageError
from config.options import Invocation, Place, pass_invocation, program_options, setting_options


@click.command(short_help="Judge for the daemon of another machine.")
@click.argument("head", metavar="tcp://HOST[:PORT]", required=False)
@click.option(
    "--make-key", type=Place(), metavar="FILE", help="Write a new key for a daemon and its workers, and exit."
)
@setting_options("workers_key", "leave_after", "lanes", "device", "cache", "log_file")
@program_options
@pass_invocation
def command(invocation: Invocation, head: str | None, make_key: Path | None) -> int:
    r"""Join the daemon that was started with `watch --workers` and judge its images on this machine.

    It reads the same inbox at the same path (or the same bucket) and writes nothing; rows are written by the
    daemon. It must have the daemon's version and compute what the daemon computes (weights come from there),
    else it is refused in one line and exits with 6. A daemon that is away is tried again, with --leave-after
    for so long: then the worker leaves with 0, or with 6 if it never joined. SIGTERM and Ctrl-C: it finishes
    what it has, leaves, exits with 0.

    \b
    Examples:
      bt-daemon worker tcp://head:8786 --workers-key workers.pem
      bt-daemon worker tcp://head:8786 --workers-key workers.pem --lanes 4
      bt-daemon worker tcp://head:8786 --workers-key workers.pem --leave-after 10m
      bt-daemon worker --make-key workers.pem
    """
    if make_key is not None:
        from daemon.remote.workers_key import make_key as write_key

        write_key(make_key)
        click.echo(f"{make_key}: copy it to every machine, readable for its owner alone")
        return 0
    if head is None:
        raise UsageError("no daemon to join", hint="name its address: bt-daemon worker tcp://HOST:8786")
    from daemon.service.join import join

    return join(invocation, head)
