"""Doubt a worker that says that a file has changed: its view of a network folder may be some seconds old.

A version that has changed is forgotten without a row, for the inbox will find its successor. Where the daemon
sees the file as it was, there is no successor to be found: then it is tried again.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from config.store_url import is_store_url
from storage.records import Failed, FailureKind

if TYPE_CHECKING:
    from daemon.workers.messages import Task
    from storage.records import Outcome

_REASON = "the worker saw another version of it than the daemon"


def believed(outcome: Outcome, task: Task) -> Outcome:
    """Return the outcome, or another try where a file is said to have changed and has not."""
    if not isinstance(outcome.result, Failed) or outcome.result.kind is not FailureKind.CHANGED:
        return outcome
    if is_store_url(task.path) or not _is_as_it_was(task):
        return outcome
    return replace(outcome, result=Failed(FailureKind.TRANSIENT, _REASON))


def _is_as_it_was(task: Task) -> bool:
    try:
        found = os.lstat(task.path)
    except OSError:
        return False
    return (found.st_size, found.st_mtime_ns, found.st_ino) == (task.size, task.mtime_ns, task.inode)
