"""A server of S3 for all tests of a process, a bucket for each test, and the environment that leads there."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.store import store_clients
from tests.support.object_store import ObjectServer, missing_package, object_server

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[ObjectServer]:
    if missing := missing_package():
        pytest.skip(f"needs a server of S3 ({missing} is not installed)")
    with object_server() as server:
        yield server


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, own_user_folders: Path) -> Iterator[None]:
    """Nobody's own account is asked, and no client of an earlier test answers."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    store_clients._opened.cache_clear()
    yield
    store_clients._opened.cache_clear()


@pytest.fixture
def bucket(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{next(_numbers)}"
    server.client().create_bucket(Bucket=name)
    return name
