"""The benchmark's limit: each part measured alone, and the one that bounds named."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch

from daemon.engines.cache import prepare_engine
from tests.benchmark.files import fill
from tests.benchmark.limit import commit_seconds, limit, main, slowest
from trainer.model.identity import default_weights

pytestmark = pytest.mark.slow


def test_on_a_cpu_decoding_and_the_network_share_the_cores(tmp_path: Path, engine_cache: Path) -> None:
    fill(tmp_path / "images", 20, 64, None)

    found = limit(default_weights(), tmp_path / "images", engine_cache, 1)

    cost = found["decode_cpu_seconds"] + found["forward_cpu_seconds"]
    assert found["images_per_second"] == pytest.approx(1 / cost)
    assert found["bound"] == "the cores"


def test_beside_a_gpu_the_slowest_part_is_named() -> None:
    parts = {"copy_seconds": 1e-5, "forward_seconds": 2e-4, "commit_seconds": 5e-5}

    few = slowest(1e-3, parts, 2)
    many = slowest(1e-3, parts, 16)

    assert (few["bound"], few["images_per_second"]) == ("decode", pytest.approx(2000))
    assert (many["bound"], many["images_per_second"]) == ("forward", pytest.approx(5000))


def test_a_stored_row_costs_far_less_than_a_decoded_image(engine_cache: Path) -> None:
    # "auto", as everywhere: that engine is made already, or others need it too.
    prepared, spec = prepare_engine(default_weights(), "cpu", "auto", engine_cache, logging.getLogger("test"))

    assert 0 < commit_seconds(prepared, spec) < 1e-3


def test_decoding_alone_is_measured_without_an_engine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path / "images", 5, 64, None)

    main([str(default_weights()), str(tmp_path / "images"), str(tmp_path / "cache"), "decode"])

    assert list(json.loads(capsys.readouterr().out)) == ["decode_cpu_seconds"]
    assert not (tmp_path / "cache").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_with_a_gpu_all_four_parts_are_measured(tmp_path: Path, engine_cache: Path) -> None:
    fill(tmp_path / "images", 20, 64, None)

    found = limit(default_weights(), tmp_path / "images", engine_cache, 2, "cuda:0")

    assert set(found["speeds"]) == {"decode", "copy", "forward", "commit"}
    assert found["images_per_second"] == min(found["speeds"].values())
