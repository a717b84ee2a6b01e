"""What every test gets: its own user folders, no leaked threads, and the shared images if they are there."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import databases
from tests.support.databases import DatabaseMaker, Target
from tests.support.postgresql_server import PostgresqlServer

REPOSITORY = Path(__file__).resolve().parent.parent
# Without the extra `train` the half of the tests runs that needs neither torch nor bt-train.
_IMPORTS_TORCH = re.compile(
    r"^(import torch|from torch"
    r"|from trainer\.(cli|networks|training|evaluation|data)\b|from tests\.support\.training)",
    re.MULTILINE,
)
if importlib.util.find_spec("torch") is None:
    collect_ignore = [
        path.relative_to(REPOSITORY / "tests").as_posix()
        for path in (REPOSITORY / "tests").rglob("test_*.py")
        if _IMPORTS_TORCH.search(path.read_text())
    ]
SHARED = REPOSITORY.parent / "shared"

# A shell that starts the tests in the background lets them ignore Ctrl-C, and every process they start
# would inherit that; the tests that interrupt one need it to listen.
signal.signal(signal.SIGINT, signal.default_int_handler)


# Images of containers set it: each of hundreds of processes would compile their modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A process per core runs tests: libraries that start as many threads each would stand in each other's way.
if "PYTEST_XDIST_WORKER" in os.environ:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the server of tests with the marker `databases`; without one they start their own."""
    parser.addoption(
        "--postgresql",
        metavar="URL",
        default=os.environ.get("TEST_POSTGRESQL"),
        help="a PostgreSQL server to make databases on; else TEST_POSTGRESQL, else one that is started",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests with the marker `databases` on SQLite and on PostgreSQL."""
    databases.parametrize(metafunc)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no process is left alone with one at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session")
def engine_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder for compiled engines, for all processes of a run: making one takes seconds."""
    base = tmp_path_factory.getbasetemp()
    cache = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "engine-cache"
    cache.mkdir(exist_ok=True)
    return cache


@pytest.fixture(scope="session", autouse=True)
def folders_of_fixtures(tmp_path_factory: pytest.TempPathFactory, engine_cache: Path) -> Iterator[None]:
    """Keep what judges for a whole file, before a test's own folders are there, away from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        _lead_to(tmp_path_factory.mktemp("home"), engine_cache, patch)
        yield


@pytest.fixture(autouse=True)
def own_user_folders(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, engine_cache: Path
) -> Path:
    """Point every user folder and BT_* variable at fresh temporary folders."""
    home = tmp_path_factory.mktemp("home")
    _lead_to(home, engine_cache, monkeypatch)
    return home


def _lead_to(home: Path, cache: Path, patch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("BT_")]:
        patch.delenv(name)
    for name in ("DATA", "CONFIG", "CACHE", "STATE"):
        patch.setenv(f"XDG_{name}_HOME", str(home / name.lower()))
    patch.setenv("HOME", str(home))
    patch.setenv("BT_CACHE", str(cache))
    patch.setenv("MPLCONFIGDIR", str(home / "matplotlib"))


@pytest.fixture(autouse=True)
def no_leaked_threads() -> Iterator[None]:
    """Fail a test that leaves a thread of ours running."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 2
    while leaked := [thread for thread in threading.enumerate() if thread not in before and _ours(thread)]:
        if time.monotonic() > deadline:
            pytest.fail(f"threads left running: {[thread.name for thread in leaked]}")
        time.sleep(0.01)


@pytest.fixture(scope="session")
def postgresql(request: pytest.FixtureRequest) -> Iterator[PostgresqlServer]:
    """A PostgreSQL server, for all tests of this process; they are skipped where there is none."""
    with databases.server(request.config.getoption("--postgresql")) as started:
        yield started


@pytest.fixture(scope="module")
def database_kind(request: pytest.FixtureRequest) -> str:
    """The kind of database of a test: SQLite's, and with the marker `databases` each in turn."""
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture
def make_database(
    database_kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[DatabaseMaker]:
    """What makes databases of that kind, for one test."""
    yield from _maker(database_kind, tmp_path, request)


@pytest.fixture(scope="module")
def make_module_database(
    database_kind: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[DatabaseMaker]:
    """What makes databases of that kind, for the tests of a module together."""
    yield from _maker(database_kind, tmp_path_factory.mktemp("database"), request)


@pytest.fixture
def database(make_database: DatabaseMaker) -> Target:
    """Where a test's database is, or will be."""
    return make_database()


def _maker(kind: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[DatabaseMaker]:
    with_server = kind == "postgresql"
    maker = DatabaseMaker(folder, request.getfixturevalue("postgresql") if with_server else None)
    yield maker
    maker.close()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared images beside the checkout; tests that need it are skipped without it."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the images of ../shared")
    return SHARED


def _ours(thread: threading.Thread) -> bool:
    # Pools of numerical libraries and the progress bar's monitor live as long as the process.
    return thread.is_alive() and not thread.name.startswith(
        ("tqdm", "ThreadPoolExecutor-openvino", "asyncio")
    )
