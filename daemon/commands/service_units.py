"""`bt-daemon service install` and `uninstall`: a systemd unit that runs `bt-daemon watch`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from config.database_url import has_password, is_server_url
from config.errors import BtError, UsageError
from config.files import atomic_write
from config.options import Invocation, Place, pass_invocation, program_options, setting_options
from config.text import printable

if TYPE_CHECKING:
    from config.settings import Settings
    from daemon.operations.systemd_unit import UnitPlan

_NAME = "bt-daemon"
_ALWAYS_NAMED = ("db", "cache")  # in the unit's command line


@click.command()
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=Place())
@click.option("--user", "of_user", is_flag=True, help="For your own service manager, not the machine's.")
@click.option(
    "--run-as", metavar="USER", default="", help="Who the machine's unit runs as.  [default: the caller]"
)
@click.option("--name", default=_NAME, show_default=True, metavar="NAME", help="What the unit is called.")
@click.option("--print", "only_print", is_flag=True, help="Print the unit, write nothing.")
@click.option("--yes", is_flag=True, help="Do not ask; needed where there is no terminal.")
@setting_options("weights", "spec", "device", "cache", "on_done", "done_dir", "quarantine_dir", "heatmaps")
@program_options
@pass_invocation
def install(
    invocation: Invocation, folders: tuple[Path, ...], name: str, run_as: str, **options: bool
) -> None:
    r"""Write a systemd unit that runs bt-daemon watch DIR... sandboxed and watched over.

    Other settings come from the file that --config names, else from ./bt.toml or the user's. The unit is
    checked by systemd-analyze where that is there.

    \b
    Examples:
      bt-daemon service install /srv/mri/inbox --print
      sudo bt-daemon service install /srv/mri/inbox --run-as mri --db /var/lib/bt-daemon/results.db
      bt-daemon service install ~/inbox --user
    """
    from daemon.operations.systemd_unit import unit_place, unit_text

    of_user = options["of_user"]
    text = unit_text(_plan(invocation, folders, _checked_name(name), "" if of_user else run_as or _caller()))
    if options["only_print"]:
        click.echo(text, nl=False)
        return
    place = unit_place(_checked_name(name), of_user=of_user, config_home=_config_home())
    click.echo(f"{printable(str(place))}:\n\n{text}", err=True)
    _confirm(f"Write {printable(str(place))}?", yes=options["yes"])
    _write(place, text)
    _verify(place, of_user=of_user)
    systemctl = f"systemctl{' --user' if of_user else ''}"
    click.echo(f"{printable(str(place))} written; start it: {systemctl} daemon-reload && ", nl=False)
    click.echo(f"{systemctl} enable --now {name}")
    if of_user:
        click.echo("It ends with your session unless: loginctl enable-linger", err=True)


@click.command()
@click.option("--user", "of_user", is_flag=True, help="Of your own service manager.")
@click.option("--name", default=_NAME, show_default=True, metavar="NAME", help="What the unit is called.")
@click.option("--yes", is_flag=True, help="Do not ask; needed where there is no terminal.")
@program_options
def uninstall(of_user: bool, name: str, yes: bool) -> None:
    r"""Stop the unit and remove its file; database, images and settings stay.

    \b
    Example:
      bt-daemon service uninstall --user
    """
    from daemon.operations.systemd_unit import unit_place

    place = unit_place(_checked_name(name), of_user=of_user, config_home=_config_home())
    if not place.is_file():
        raise UsageError(
            f"there is no unit at {printable(str(place))}", hint="was it installed with --user or --name?"
        )
    _confirm(f"Remove {printable(str(place))}?", yes=yes)
    manager = ["systemctl", *(["--user"] if of_user else [])]
    if shutil.which("systemctl"):  # where no manager runs there is nothing to stop
        subprocess.run([*manager, "disable", "--now", name], capture_output=True, check=False)
    try:
        place.unlink()
    except OSError as error:
        raise BtError(f"cannot remove {printable(str(place))} ({error.strerror})") from error
    if shutil.which("systemctl"):
        subprocess.run([*manager, "daemon-reload"], capture_output=True, check=False)
    click.echo(f"{printable(str(place))} removed")


def _plan(invocation: Invocation, folders: tuple[Path, ...], name: str, user: str) -> UnitPlan:
    from daemon.operations.systemd_unit import UnitPlan, written_folders
    from daemon.service.compose import checked_folders
    from storage.database import stand_in

    resolved = invocation.resolve()
    _refuse_environment(resolved.sources)
    settings = resolved.settings
    _refuse_password(settings.db)
    roots = checked_folders(folders)
    # The machine's unit has folders of its own: those of the caller are often no other user's to write to.
    places = {"db": stand_in(settings.db), "cache": Path(settings.cache)}
    own_folders = {"db": Path("/var/lib", name, "results.db"), "cache": Path("/var/cache", name)}
    managed = tuple(key for key in own_folders if user and resolved.sources[key] == "default")
    database, cache = (
        own_folders[key] if key in managed else Path(os.path.abspath(place)) for key, place in places.items()
    )
    moved = settings.on_done == "move" or settings.quarantine_dir
    writable = [str(database.parent), str(cache), settings.done_dir, settings.quarantine_dir]
    writable += [settings.heatmaps, *(map(str, roots) if moved else ())]
    named = _named_settings(settings, resolved.sources)
    config = () if resolved.config_file is None else ("--config", os.path.abspath(resolved.config_file))
    on_server = is_server_url(settings.db)
    own = ("--db", settings.db if on_server else str(database), "--cache", str(cache))
    return UnitPlan(
        command=(*_program(), "watch", *map(str, roots), *own, *config, *named),
        folders=tuple(roots),
        writable=written_folders(writable),
        user=user,
        state=name if "db" in managed else "",
        cache=name if "cache" in managed else "",
        gpu=settings.device.startswith("cuda"),
        network=bool(settings.notify or settings.ping or on_server),
    )


def _named_settings(settings: Settings, sources: dict[str, str]) -> tuple[str, ...]:
    """Return the options of this command line that `watch` is to have; folders absolute."""
    found: list[str] = []
    for key in ("weights", "spec", "device", "on_done", "done_dir", "quarantine_dir", "heatmaps"):
        if sources.get(key) == "flag":
            value = str(getattr(settings, key))
            is_place = key not in ("device", "on_done")
            found += [f"--{key.replace('_', '-')}", os.path.abspath(value) if is_place else value]
    return tuple(found)


def _refuse_password(address: str) -> None:
    """A unit can be read by everybody."""
    if has_password(address):
        raise UsageError(
            "the unit would show the password in the database's address",
            hint="leave it to ~/.pgpass of the unit's user, and --db without it",
        )


def _refuse_environment(sources: dict[str, str]) -> None:
    """A unit does not inherit the caller's environment: what it says would be lost without a word."""
    lost = [
        source.removeprefix("environment ")
        for key, source in sources.items()
        if source.startswith("environment ") and key not in _ALWAYS_NAMED
    ]
    if lost:
        raise UsageError(
            f"the unit would not know {printable(', '.join(lost))} of this environment",
            hint="write it into bt.toml and unset it",
        )


def _program() -> tuple[str, ...]:
    script = Path(sys.executable).with_name("bt-daemon")
    return (str(script),) if script.is_file() else (sys.executable, "-m", "daemon.cli")


def _caller() -> str:
    import pwd

    return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name


def _config_home() -> str:
    return os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")


def _checked_name(name: str) -> str:
    if not name or not all(letter.isascii() and (letter.isalnum() or letter in "-_@.") for letter in name):
        raise UsageError(f"{printable(repr(name))} is no name of a unit", hint="letters, digits, - and _")
    return name.removesuffix(".service")


def _confirm(question: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Nobody can be asked", hint="add --yes, or --print to only see it")
    click.confirm(question, abort=True, err=True)


def _write(place: Path, text: str) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(place, mode=0o644) as stream:
            stream.write(text.encode())
    except OSError as error:
        raise BtError(
            f"cannot write {printable(str(place))} ({error.strerror})",
            hint="run it with sudo, or --user for your own service manager",
        ) from error


def _verify(place: Path, *, of_user: bool) -> None:
    """Have systemd read the unit; what it says of it is said on."""
    if shutil.which("systemd-analyze") is None:
        return
    which = ["systemd-analyze", "verify", *(["--user"] if of_user else []), str(place)]
    done = subprocess.run(which, capture_output=True, text=True, check=False)
    own = [line for line in done.stderr.splitlines() if place.name in line]
    for line in own:
        click.echo(f"systemd-analyze: {printable(line)}", err=True)
