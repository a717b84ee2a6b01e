"""Errors a user can meet: one line that says what, where and the next step, and an exit code."""

from __future__ import annotations


class BtError(Exception):
    """A failure the user can act on; commands print it as one line and exit with `exit_code`."""

    exit_code = 1

    def __init__(self, what: str, *, hint: str = "") -> None:
        """`what` names the fact and the place, `hint` the next step; neither ends with a full stop."""
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}; {self.hint}" if self.hint else self.what


class UsageError(BtError):
    """The command line or the configuration cannot be meant as it stands."""

    exit_code = 2


class DatabaseError(BtError):
    """The database is busy, unwritable, too new or on a file system that cannot hold it."""

    exit_code = 3

    # Whether waiting may help (busy, full): then the daemon waits instead of ending.
    transient = False


class WeightsError(BtError):
    """The weights file is missing, truncated, foreign or from a newer version."""

    exit_code = 4


class DeviceError(BtError):
    """The device that was asked for is not there."""

    exit_code = 5


class DataError(BtError):
    """The training data cannot be used as it is (missing folder, one class, no readable image)."""

    exit_code = 2
