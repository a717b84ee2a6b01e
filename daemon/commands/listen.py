"""`bt-daemon listen`: receive images from a scanner or PACS into an inbox."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from config.options import Invocation, Place, commas, pass_invocation, program_options, setting_options


@click.command(short_help="Receive images from a scanner or PACS (DICOM C-STORE).")
@click.argument("inbox", metavar="DIR", type=Place())
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to listen.")
@click.option(
    "--port", default=11112, show_default=True, type=click.IntRange(0, 65535), metavar="N",
    help="0 takes a free one.",
)  # fmt: skip
@click.option(
    "--aet", default="BT_DAEMON", show_default=True, metavar="NAME", help="AE title it is called by."
)
@click.option(
    "--allow", multiple=True, callback=commas, metavar="CALLER,...",
    help="Who may send: TITLE@ADDRESS, ADDRESS, NETWORK or TITLE.  [default: whoever reaches the port]",
)  # fmt: skip
@click.option("--tls-cert", type=Place(), metavar="FILE", help="Encrypt: this listener's certificate (PEM).")
@click.option("--tls-key", type=Place(), metavar="FILE", help="Its key.  [default: in the same file]")
@click.option(
    "--tls-ca",
    type=Place(),
    metavar="FILE",
    help="Ask callers for a certificate that these authorities signed.",
)
@click.option(
    "--max-associations", default=10, show_default=True, type=click.IntRange(1, 1000), metavar="N",
    help="So many callers at a time.",
)  # fmt: skip
@click.option(
    "--min-free",
    default="1GiB",
    show_default=True,
    metavar="SIZE",
    help="Disk space that stays free; 0: none.",
)
@setting_options("max_bytes", "any_modality")
@program_options
@pass_invocation
def command(invocation: Invocation, inbox: Path, **options: Any) -> int:
    r"""Receive DICOM images over the network (C-STORE, C-ECHO) and put each as a file into DIR.

    A caller gets its 0x0000 when the file is on the disk; let bt-daemon watch judge it. Beyond this machine
    --allow or --tls-ca must say who may send. Stop it with Ctrl-C.

    \b
    Examples:
      bt-daemon listen ./inbox
      bt-daemon listen ./inbox --host 0.0.0.0 --port 11112 --aet BTDAEMON --allow MRI1@10.0.0.5
      bt-daemon listen ./inbox --host 0.0.0.0 --tls-cert own.pem --tls-key own.key --tls-ca hospital.pem
    """
    from daemon.listen.listening import understood
    from daemon.log import set_up_log

    settings = invocation.settings
    log = set_up_log(invocation.verbosity, settings.log_format)
    wanted = understood(inbox, settings, options, log)

    from daemon.listen.listener import listen

    return listen(wanted, log)
