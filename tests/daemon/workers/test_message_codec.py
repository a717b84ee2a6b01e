"""What workers tell: nothing but answers for their own batch gets through."""

from __future__ import annotations

import json
import os
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.frames import FrameReader, GarbledError, send_frame
from daemon.workers.message_codec import decode, encode, encode_unable, why_unable
from daemon.workers.messages import Task
from storage.records import Failed, FailureKind, Judged, Outcome, SeriesKeys, Status

pytestmark = pytest.mark.defects(26)

BATCH = [Task(number, b"/in/x.png", 1, 2, 3) for number in (4, 9, 11)]
SERIES = SeriesKeys(b"s" * 16, b"t" * 16, None, -12.5)
SLICES = (3, 20, {"StudyInstanceUID": "1.2\xa03"}, 0.625, SERIES, {7: 3, 321: 9}, 8, 12.5)
JUDGED = Judged(Status.UNCERTAIN, "yes", 0.625, None, *SLICES)
OUTCOMES = [
    Outcome(4, JUDGED, bytes(range(32)), 1234),
    Outcome(9, Failed(FailureKind.TRANSIENT, "busy"), None, 0),
    Outcome(11, Judged(Status.REJECTED, None, None, "unlike", score=0.1), b"x" * 32, 99),
]


def test_outcomes_come_through_as_they_were() -> None:
    assert decode(encode(OUTCOMES), BATCH) == OUTCOMES


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, 5), (0, True), (0, "4"), (0, 4.0), (1, "00"), (1, 7), (1, "zz" * 32), (2, -1), (2, 1 << 60),
        (2, 1.5), (2, "1"), (3, "error"), (3, "fine"), (3, None), (4, 5), (4, "x" * 5000), (4, "\ud800"),
        (5, 1.5), (5, -0.5), (5, float("nan")), (5, True), (5, "0.5"), (6, []), (7, -1), (9, []),
        (9, {"a": 1}), (10, 2), (10, {}), (14, -1), (14, "1"), (14, float("inf")), (14, float("nan")),
        (11, []), (11, ["00" * 16, None, None]), (11, [None, None, None, None]),
        (11, ["00", None, None, 1.0]), (11, ["00" * 16, 5, None, 1.0]), (11, ["00" * 16, None, None, "1"]),
        (11, ["00" * 16, None, None, float("inf")]), (12, {}), (12, [[1]]), (12, [[-1, 1]]), (12, [[1, 0]]),
        (12, [["1", 1]]), (12, [[1, 1.5]]), (12, [[1 << 32, 1]]), (12, [[1, 1 << 40]]), (13, -1), (13, "1"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused(place: int, value: Any) -> None:
    rows = json.loads(encode(OUTCOMES))
    rows[0][place] = value

    with pytest.raises(GarbledError):
        decode(json.dumps(rows).encode(), BATCH)


@pytest.mark.parametrize(
    "message",
    [
        b"", b"null", b"{}", b"[]", b"ready", b"[[],[],[]]", b"[" * 100_000, b"\xff", pickle.dumps(OUTCOMES),
        encode(OUTCOMES[:2]), encode(OUTCOMES[::-1]), b"[1,2,3]", b"[" + b"9" * 5000 + b",1,2]",
    ],
)  # fmt: skip
def test_a_message_that_is_no_answer_to_the_batch_is_refused(message: bytes) -> None:
    with pytest.raises(GarbledError):
        decode(message, BATCH)


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(st.text(), inner, max_size=3),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_whatever_comes_is_refused_in_one_way(message: bytes) -> None:
    with pytest.raises(GarbledError):
        decode(message, BATCH)


def test_a_message_in_pieces_is_put_together_and_nobody_is_waited_for() -> None:
    ours, theirs = os.pipe()
    frames = FrameReader(1000)
    send_frame(theirs, b"first")
    send_frame(theirs, b"")
    os.write(theirs, b"\0\0\0\x06sec")

    first = frames.read(ours)
    os.write(theirs, b"ond")
    second = frames.read(ours)
    os.write(theirs, b"\xff\xff\xff\xff")

    assert (first, second) == ([b"first", b""], [b"second"])
    with pytest.raises(GarbledError):
        frames.read(ours)
    os.close(theirs)
    with pytest.raises(EOFError):
        frames.read(ours)
    os.close(ours)


def test_why_a_lane_is_unable_is_one_printable_line() -> None:
    told = why_unable(encode_unable(RuntimeError("no \x1b[31mdevice\nat all")))

    assert told == "no \\x1b[31mdevice"
    assert why_unable(b"ready") is None
