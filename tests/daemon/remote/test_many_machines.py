"""Network namespaces as hosts: a short form of `python -m tests.scale_harness`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.harness.scale.hosts import why_impossible

_WHY = why_impossible()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(_WHY), reason=_WHY)]
_COMMAND = [sys.executable, "-m", "tests.scale_harness", "--workers", "3", "--images", "900"]


def _namespaces(owner: int) -> list[str]:
    listed = subprocess.run(["ip", "netns", "list"], text=True, capture_output=True, check=True).stdout
    return [line for line in listed.splitlines() if line.startswith(f"bt-scale-{owner}-")]


@pytest.mark.timeout(300)
def test_killed_workers_on_three_hosts_lose_and_double_nothing(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"

    done = subprocess.run(
        [*_COMMAND, "--kills", "2", "--json", figures],
        cwd=REPOSITORY,
        text=True,
        capture_output=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    told = json.loads(figures.read_text())["many"]
    assert [told[name] for name in ("lost", "doubled", "errors", "wrong")] == [0, 0, 0, 0]
    assert told["kills"] == 2


@pytest.mark.timeout(120)
def test_the_harness_leaves_no_host_behind_when_it_is_interrupted() -> None:
    process = subprocess.Popen(_COMMAND, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(_namespaces(process.pid)) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    was = _namespaces(process.pid)

    process.send_signal(signal.SIGINT)
    process.wait(60)

    assert len(was) == 3
    assert not _namespaces(process.pid)
