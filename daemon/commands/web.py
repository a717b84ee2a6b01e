"""`bt-daemon web`: the results in a browser, live; with --write people say there what images are."""

from __future__ import annotations

import click

from config.errors import UsageError
from config.options import Invocation, commas, pass_invocation, program_options


def _check_token(token: str | None) -> None:
    from daemon.web.guard import SHORTEST_TOKEN

    if token is None or len(token) >= SHORTEST_TOKEN:
        return
    found = "is empty (a shell variable that is not set?)" if not token else f"has {len(token)} characters"
    raise UsageError(
        f"the token {found}; it needs {SHORTEST_TOKEN} at least",
        hint="leave --token and BT_WEB_TOKEN out to get a new one",
    )


@click.command(short_help="The results in a browser, live.")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to listen.")
@click.option(
    "--port", default=8321, show_default=True, type=click.IntRange(0, 65535), metavar="N",
    help="0 takes a free one.",
)  # fmt: skip
@click.option(
    "--name", "names", multiple=True, callback=commas, metavar="HOST,...",
    help="Other names under which browsers reach it.",
)  # fmt: skip
@click.option(
    "--token", envvar="BT_WEB_TOKEN", metavar="TEXT",
    help="Ask for this token, 16 characters at least.  [default: none on this machine, beyond it a new one]",
)  # fmt: skip
@click.option(
    "--write", is_flag=True,
    help="Let people review results and drop images into inboxes; asks for a token, here too.",
)  # fmt: skip
@click.option("--utc", is_flag=True, help="Times in UTC instead of local time.")
@program_options
@pass_invocation
def command(
    invocation: Invocation,
    host: str,
    port: int,
    names: tuple[str, ...],
    token: str | None,
    **flags: bool,
) -> None:
    r"""Serve pages about the database: what came in, pictures with heatmaps, errors, the model.

    It shows what a daemon is doing as it does it, and never changes a result. With --write people can say
    what images are (reviews, stored beside the results) and drop images into inboxes. Stop it with Ctrl-C.

    \b
    Examples:
      bt-daemon web
      bt-daemon web --write
      bt-daemon web --host 0.0.0.0 --port 8080 --name mri-box.local
    """
    import secrets
    from datetime import UTC

    from config.when import local_zone
    from daemon.web.app import make_app
    from daemon.web.guard import Rules, is_loopback
    from daemon.web.serve import address, listen, own_names, serve
    from daemon.web.site import opened_site

    settings = invocation.settings
    _check_token(token)
    with listen(host, port) as door:
        if token is None and (flags["write"] or not is_loopback(host)):
            token = secrets.token_urlsafe(24)
        zone = UTC if flags["utc"] else local_zone()
        with opened_site(settings, zone, writing=flags["write"]) as site:
            rules = Rules(own_names(host) | {name.lower() for name in names}, token, flags["write"])
            click.echo(f"open {address(host, door, token)} (Ctrl-C stops it)", err=True)
            serve(make_app(site, rules), door)
