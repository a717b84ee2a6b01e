"""A worker's word that a file has changed is doubted where the daemon sees it as it was."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.remote.head.stale_view import believed
from daemon.workers.messages import Task
from storage.records import Failed, FailureKind, Outcome
from tests.support.workers import task


@pytest.fixture
def seen(tmp_path: Path) -> Task:
    path = tmp_path / "image.png"
    path.write_bytes(b"picture")
    return task(7, path)


def _failed(kind: FailureKind) -> Outcome:
    return Outcome(7, Failed(kind, "said so"))


def test_a_file_that_the_daemon_sees_as_it_was_is_tried_again(seen: Task) -> None:
    found = believed(_failed(FailureKind.CHANGED), seen)

    assert isinstance(found.result, Failed)
    assert found.result.kind is FailureKind.TRANSIENT


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if kind is not FailureKind.CHANGED])
def test_every_other_failure_is_taken_as_it_is(seen: Task, kind: FailureKind) -> None:
    assert believed(_failed(kind), seen) == _failed(kind)


def test_a_file_that_has_changed_or_gone_and_an_object_are_believed(seen: Task) -> None:
    changed = _failed(FailureKind.CHANGED)

    assert believed(changed, replace(seen, size=1)) == changed
    assert believed(changed, replace(seen, path=b"s3://mri/in/1.png")) == changed
    os.unlink(seen.path)
    assert believed(changed, seen) == changed
