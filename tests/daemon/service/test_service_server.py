"""The daemon's loop over a database on a PostgreSQL server that goes away in the middle of its work."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from config.errors import UsageError
from config.settings import Settings
from daemon.service.compose import open_service
from daemon.service.service import Service
from daemon.service.signals import Waker
from tests.support.databases import raw, soundness
from tests.support.postgresql_server import NoServerError
from trainer.images.phantom import phantom

psycopg = pytest.importorskip("psycopg", reason="needs the extra postgresql")

from tests.support.server_control import restart, restartable_server  # noqa: E402 - after the check for the extra

_PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A database on a server that may be restarted."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(restartable_server())
        except NoServerError as error:
            pytest.skip(f"needs PostgreSQL: {error}")
        yield stack.enter_context(server.database(empty=True))


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def _fill(inbox: Path, number: int) -> None:
    picture = phantom(1, lesion=True, size=64, label=False)
    for place in range(number):
        picture.putpixel((place % 64, place // 64 % 64), 200)
        picture.save(inbox / f"{place:05}.png")


@contextmanager
def _service(inbox: Path, url: str) -> Iterator[Service]:
    waker = Waker()
    settings = Settings(
        db=url, cache=os.environ["BT_CACHE"], lanes=1, settle_seconds=0.01, rescan_seconds=3600
    )
    try:
        with open_service(
            settings, [inbox.resolve()], logging.getLogger("bt-daemon"), waker, once=False
        ) as service:
            yield service
    finally:
        waker.close()


def _step_until_judged(service: Service, number: int) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while service.counters.judged < number:
        assert time.monotonic() < deadline, service.counters
        service.step(min(service._patience() or 0.0, 0.05))


def _rows_of(url: str, inbox: Path) -> list[tuple[Any, ...]]:
    return raw(
        url,
        "SELECT count(*), count(DISTINCT file.id) FROM file LEFT JOIN result ON file_id = file.id"
        " JOIN folder ON folder.id = folder_id JOIN inbox ON inbox.id = inbox_id"
        f" WHERE inbox.path = '{inbox.resolve()}'::bytea",
    )


@pytest.mark.slow
def test_server_that_crashes_between_turns_loses_and_doubles_nothing(inbox: Path, url: str) -> None:
    _fill(inbox, 60)
    with _service(inbox, url) as service:
        for judged in (1, 20, 40):
            _step_until_judged(service, judged)
            restart(url)

        _step_until_judged(service, 60)

        assert service.counters.store_failures
        assert service.trouble == ""
    assert _rows_of(url, inbox) == [(60, 60)]
    assert soundness(url) == "ok"


@pytest.mark.slow
def test_images_of_a_commit_whose_answer_was_lost_are_judged(
    inbox: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = psycopg.Connection.commit
    lost: list[Any] = []

    def commit_unanswered(driver: Any) -> None:
        found_now = bool(service._found)
        commit(driver)
        if found_now and not lost:
            lost.append(driver)
            driver.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")

    with _service(inbox, url) as service:
        _fill(inbox, 20)
        monkeypatch.setattr(psycopg.Connection, "commit", commit_unanswered)

        _step_until_judged(service, 20)

    assert lost
    assert _rows_of(url, inbox) == [(20, 20)]


@pytest.mark.slow
def test_second_daemon_on_the_server_is_refused(inbox: Path, url: str) -> None:
    with (
        _service(inbox, url),
        pytest.raises(UsageError, match="already writes to postgresql://"),
        _service(inbox, url),
    ):
        pass
