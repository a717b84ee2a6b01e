"""The log names what failed and why, with -v every image, and is never filled by a folder of failures."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest

from daemon.service.image_log import ImageLog
from daemon.service.service import Told
from storage.records import Entry, Failed, FailureKind, FileVersion, Judged, Outcome, Status
from storage.schema import FileState

pytestmark = pytest.mark.defects(31)


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def images(time: Time, caplog: pytest.LogCaptureFixture) -> ImageLog:
    caplog.set_level(logging.INFO, "bt-daemon")
    return ImageLog(logging.getLogger("bt-daemon"), time)


def _told(name: str, result: Judged | Failed, state: FileState) -> Told:
    version = FileVersion(1, b"sub", name.encode(), 1, 2, 3)
    return Told(Entry(1, version, 0, 0), Outcome(1, result, None, 12_000), state)


def _errors(names: Sequence[str], reason: str = "not an image") -> list[Told]:
    return [_told(name, Failed(FailureKind.PERMANENT, reason), FileState.QUARANTINED) for name in names]


def test_a_failing_file_is_one_line_with_its_printable_name_and_its_reason(
    images: ImageLog, caplog: pytest.LogCaptureFixture
) -> None:
    images.stored(_errors(["a\x1b[31m.png"]))
    images.stored([_told("b.png", Failed(FailureKind.TRANSIENT, "busy"), FileState.PENDING)])

    assert caplog.messages == [
        "sub/a\\x1b[31m.png: not judged: not an image",
        "sub/b.png: tried again later: busy",
    ]


def test_beyond_ten_a_minute_each_cause_is_said_once_with_its_count(
    images: ImageLog, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1000):
        images.stored(_errors([f"{number}.png"], "empty" if number == 500 else "not an image"))
    during = len(caplog.messages)
    time.now = 61.0
    images.turned(None)  # type: ignore[arg-type]
    images.stored(_errors(["later.png"]))

    assert during == 10
    assert caplog.messages[10:] == [
        "989 more files not judged: not an image (the last: sub/999.png)",
        "1 more file not judged: empty (the last: sub/500.png)",
        "sub/later.png: not judged: not an image",
    ]


def test_reasons_that_all_differ_do_not_fill_the_log(
    images: ImageLog, caplog: pytest.LogCaptureFixture
) -> None:
    images.stored([told for number in range(500) for told in _errors(["x"], f"reason {number}")])
    images.flush()

    assert len(caplog.messages) == 10 + 21
    assert caplog.messages[-1].startswith("470 more files for other reasons")


def test_each_image_is_a_line_only_when_more_is_asked_for(
    images: ImageLog, caplog: pytest.LogCaptureFixture
) -> None:
    told = [
        _told("a.png", Judged(Status.OK, "yes", 0.97251), FileState.DONE),
        _told("b.png", Judged(Status.UNCERTAIN, "no", 0.55), FileState.DONE),
        _told("c.png", Judged(Status.REJECTED, None, None, "unlike"), FileState.DONE),
    ]
    images.stored(told)
    quiet = list(caplog.messages)
    caplog.set_level(logging.DEBUG, "bt-daemon")
    images.stored(told)

    assert quiet == []
    assert caplog.messages == [
        "sub/a.png: yes 0.973, 12 ms",
        "sub/b.png: no 0.550 uncertain, 12 ms",
        "sub/c.png: rejected: unlike, 12 ms",
    ]
