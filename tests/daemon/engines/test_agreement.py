"""The shipped model's engine gives float32's answers, as the benchmark of agreement measures it."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.extras import installed
from tests.benchmark.agreement import agreement
from tests.benchmark.files import fill

pytestmark = pytest.mark.slow


def test_the_picked_engine_agrees_with_float32(tmp_path: Path, engine_cache: Path) -> None:
    fill(tmp_path / "images", 24, 224, None)

    told = agreement(tmp_path / "images", engine_cache)

    assert told["images"] == 24
    assert set(told["differ"].values()) == {0}
    assert told["largest_difference_of_a_confidence"] <= 0.02
    assert told["cpu_seconds"]["picked"] > 0
    if installed("torch"):
        assert told["torch"]["labels that differ"] == 0
        assert max(told["torch"].values()) < 1e-4
