"""The listener is killed while callers send and a daemon judges: what is answered has a row."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.harness.receive import is_right, received_with_kills

pytestmark = pytest.mark.slow


def test_every_answered_object_has_a_row_though_the_listener_is_killed_again_and_again(
    tmp_path: Path,
) -> None:
    told = received_with_kills(tmp_path, 120, 4, random.Random(1))

    assert is_right(told), told
    assert told["refused"] == ["a700"]
