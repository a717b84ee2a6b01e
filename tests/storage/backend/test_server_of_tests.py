"""The PostgreSQL server of the tests leaves nothing behind, not even when they are killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.conftest import REPOSITORY
from tests.support.daemons import until
from tests.support.postgresql_server import has_server

_STARTING = """
import time
from tests.support.postgresql_server import postgresql_server

with postgresql_server() as server:
    print(server.url.partition("host=")[2], flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.skipif(not has_server(), reason="needs PostgreSQL")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_server_ends_with_the_process_that_started_it(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _STARTING], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        cwd=REPOSITORY,
    ) as starter:  # fmt: skip
        assert starter.stdout is not None
        folder = Path(starter.stdout.readline().strip())
        server = int((folder / "data" / "postmaster.pid").read_text().split()[0])
        assert psutil.pid_exists(server)
        starter.send_signal(number)

    until(lambda: not psutil.pid_exists(server), 20)
    until(lambda: not folder.exists(), 20)
