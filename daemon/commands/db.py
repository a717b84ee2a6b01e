"""`bt-daemon db`: where the database is, whether it is sound, and how to keep it so."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from config.errors import UsageError
from config.options import Group, Invocation, pass_invocation, program_options
from config.text import printable

if TYPE_CHECKING:
    from storage.maintenance.prune import Pruned


@click.group(cls=Group, short_help="Database: path, check, backup, restore, migrate, prune.")
@program_options
def command() -> None:
    r"""Keep the database: where it is, check, backup, restore, migrate, prune.

    \b
    Examples:
      bt-daemon db path
      bt-daemon db check
      bt-daemon db backup results-2026-11-24.db
      bt-daemon db restore results-2026-11-24.db
      bt-daemon db prune --before 90d
    """


@command.command()
@click.option("--json", "as_json", is_flag=True, help="With what is known of it, for programs.")
@program_options
@pass_invocation
def path(invocation: Invocation, as_json: bool) -> None:
    r"""Print where the database is.

    \b
    Examples:
      bt-daemon db path
      sqlite3 "$(bt-daemon db path)" 'SELECT count(*) FROM result'
    """
    from config.database_url import is_server_url
    from daemon.output.json_text import json_name, json_text
    from storage.maintenance.check_backup import facts

    if is_server_url(invocation.settings.db):
        click.echo(_server_text(invocation.settings.db, as_json=as_json))
        return
    found = facts(invocation.settings.db)
    if not as_json:
        click.echo(bytes(found.path))  # as it is: for other programs
        return
    known = {
        "exists": found.exists,
        "size_bytes": found.size_bytes,
        "filesystem": found.filesystem,
        "revision": found.revision,
        "sqlite_version": found.sqlite_version,
    }
    click.echo(json_text(json_name("path", bytes(found.path)) | known, indent=2))


def _server_text(address: str, *, as_json: bool) -> str:
    """Return the address of a database on a server, without a password; as JSON with what it is like."""
    from daemon.output.json_text import json_text
    from storage.database import shown_place

    if not as_json:
        return shown_place(address)
    from storage.maintenance.server_facts import server_facts

    found = server_facts(address)
    known = {
        "path": found.place,
        "exists": True,
        "size_bytes": found.size_bytes,
        "revision": found.revision,
        "server_version": found.server_version,
    }
    return json_text(known, indent=2)


@command.command()
@program_options
@pass_invocation
def check(invocation: Invocation) -> int:
    r"""Look at every page, index and reference; exit with 1 if anything is wrong.

    \b
    Example:
      bt-daemon db check
    """
    from storage.maintenance.check_backup import check as check_database

    found = check_database(invocation.settings.db)
    for problem in found.problems:
        click.echo(printable(problem))
    if found.problems:
        click.echo(
            f"{len(found.problems)} problems; put a backup in its place: bt-daemon db restore FILE", err=True
        )
        return 1
    reviews = f", {found.reviews} reviews" if found.reviews else ""
    click.echo(f"ok: {found.results} results of {found.files} file versions{reviews}")
    return 0


@command.command()
@click.argument("destination", metavar="FILE", type=click.Path(path_type=Path))
@program_options
@pass_invocation
def backup(invocation: Invocation, destination: Path) -> int:
    r"""Copy the database to FILE, and its models to FILE-models, also while a daemon works.

    \b
    Example:
      bt-daemon db backup results-2026-11-24.db
    """
    from daemon.output.cells import size_text
    from storage.database import stand_in
    from storage.maintenance.check_backup import backup as back_up

    database = invocation.settings.db
    size = back_up(database, destination)
    return _copied(f"{printable(str(destination))}: {size_text(size)}", stand_in(database), destination)


@command.command()
@click.argument("backup", metavar="FILE", type=click.Path(path_type=Path))
@program_options
@pass_invocation
def restore(invocation: Invocation, backup: Path) -> int:
    r"""Put a backup in the place of the database, which is kept beside it under another name.

    Stop the daemon first. The backup is checked before anything is replaced, and stays as it is. Models that
    lie beside it (FILE-models) are put beside the database.

    \b
    Example:
      bt-daemon db restore results-2026-11-24.db
    """
    from config.database_url import is_server_url
    from storage.database import database_path, stand_in
    from storage.lock import DatabaseLock
    from storage.maintenance.restore import restore as put_in_place
    from storage.maintenance.server_facts import refuse_copies

    database = invocation.settings.db
    if is_server_url(database):
        refuse_copies(database, "db restore", "pg_restore, with the daemon stopped")
    hint = "stop it first (bt-daemon status tells which)"
    with DatabaseLock(database_path(database), hint=hint, make=False):
        done = put_in_place(database, backup)
    shown = printable(str(database))
    code = _copied(
        f"{shown}: {done.results} results, from {printable(str(backup))}", backup, stand_in(database)
    )
    if done.kept is not None:
        click.echo(f"the database before is kept: {printable(str(done.kept))}", err=True)
    return code


def _copied(done: str, source: Path, target: Path) -> int:
    """Copy the models of a database's rows after it, say what was done, and return the exit code."""
    from daemon.model_store import copy_models, models_folder

    models, trouble = copy_models(source, target)
    if models:
        done += f", {models} model{'s' * (models != 1)} in {printable(models_folder(target).name)}/"
    click.echo(done)
    if not trouble:
        return 0
    left = printable(str(models_folder(source)))
    click.echo(f"not all of the models could be copied ({trouble}): copy {left}/ yourself", err=True)
    return 1


@command.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@program_options
@pass_invocation
def migrate(invocation: Invocation, dry_run: bool) -> None:
    r"""Bring the database to this version's schema; `watch` does it by itself.

    A copy of it is kept beside it first (results.db.before-0004), for going back to an older version: see
    db restore. Delete it when you are content.

    \b
    Examples:
      bt-daemon db migrate --dry-run
      bt-daemon db migrate
    """
    from config.database_url import is_server_url
    from storage.database_errors import DatabaseMissingError
    from storage.maintenance.check_backup import facts, planned_migration
    from storage.maintenance.check_backup import migrate as bring_up_to_date

    database = invocation.settings.db
    if not is_server_url(database) and not facts(database).exists:
        raise DatabaseMissingError(f"there is no database at {printable(database)} yet")
    done = planned_migration(database) if dry_run else bring_up_to_date(database)
    if done.before == done.after:
        click.echo(f"schema {done.after}, nothing to do")
        return
    click.echo(f"schema {done.before or 'none'} -> {done.after}")
    for step in done.steps:
        click.echo(f"  {step}")
    if done.backup is not None:
        click.echo(f"{'would be kept' if dry_run else 'kept'}: {printable(str(done.backup))}", err=True)


@command.command()
@click.option("--before", "when", metavar="WHEN", required=True, help="Judged before: 90d, 2026-01-01.")
@click.option("--reviewed", is_flag=True, help="Also what a person reviewed, with the reviews.")
@click.option("--dry-run", is_flag=True, help="Only say how many.")
@click.option("--yes", is_flag=True, help="Do not ask; needed where there is no terminal.")
@program_options
@pass_invocation
def prune(invocation: Invocation, when: str, reviewed: bool, dry_run: bool, yes: bool) -> None:
    r"""Delete old results; images that still lie in an inbox are not judged anew.

    What a person reviewed is kept, unless --reviewed is given.

    \b
    Examples:
      bt-daemon db prune --before 90d --dry-run
      bt-daemon db prune --before 2026-01-01 --yes
    """
    from contextlib import closing
    from dataclasses import replace
    from datetime import UTC, datetime

    from config.when import local_zone, microseconds, parse_when
    from daemon.model_store import forget_models
    from storage.database import open_reader, open_writer, stand_in
    from storage.maintenance.prune import models_named
    from storage.maintenance.prune import prune as delete_before
    from storage.queries.results import count
    from storage.query import Query, ReviewFilter
    from trainer.model.series_rule import SeriesRule

    zone = local_zone()
    moment = parse_when(when, datetime.now(UTC), zone)
    query = Query(until_us=microseconds(moment))
    with closing(open_reader(invocation.settings.db)) as reader:
        kept = 0 if reviewed else count(reader, replace(query, review=ReviewFilter.REVIEWED))
        number = count(reader, query) - kept
    shown = moment.astimezone(zone).isoformat(" ", "seconds")
    if dry_run:
        click.echo(f"{number} results from before {shown} would be deleted{_kept_text(kept, 'would be ')}")
        return
    if not yes:
        _confirm(number, shown)
    with closing(open_writer(invocation.settings.db, checkpoints=False)) as writer:
        pruned = delete_before(writer, microseconds(moment), SeriesRule.from_json, reviewed=reviewed)
        models = forget_models(stand_in(invocation.settings.db), models_named(writer))
    click.echo(_pruned_text(pruned, models, shown))


def _pruned_text(pruned: Pruned, models: int, shown: str) -> str:
    return (
        f"deleted {pruned.results} results from before {shown}"
        + (f" and {pruned.reviews} reviews" if pruned.reviews else "")
        + f", forgot {pruned.files} files that are gone"
        + (f" and {models} model{'' if models == 1 else 's'} that no row names" if models else "")
        + _kept_text(pruned.kept)
    )


def _kept_text(kept: int, verb: str = "") -> str:
    """Return what is said of results that a person reviewed."""
    return f"; {verb}kept: {kept} that a person reviewed (--reviewed deletes them too)" if kept else ""


def _confirm(number: int, shown: str) -> None:
    """Ask whether so many results are to be deleted; raise UsageError where nobody can be asked."""
    if not sys.stdin.isatty():
        raise UsageError(
            f"{number} results from before {shown} would be deleted and nobody can be asked",
            hint="add --yes to delete them, or --dry-run to only count",
        )
    if number:
        click.confirm(f"Delete {number} results from before {shown}?", abort=True, err=True)
