"""Lists, twins and paired intervals of models on the same images."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from config.errors import DataError, UsageError
from tests.support.models import OWN, untrained_model
from tests.support.training import draw_heads
from trainer.data.dataset import Collection
from trainer.evaluation.evaluate import twins_warning
from trainer.evaluation.outputs.judged_set import JudgedSet, judge_collection
from trainer.evaluation.outputs.model_comparison import check_comparable, paired_differences
from trainer.evaluation.outputs.score_list import check_list, write_list
from trainer.images.arrays import Floats
from trainer.model.seen import Seen

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> JudgedSet:
    folder = tmp_path_factory.mktemp("judged")
    heads = draw_heads(folder / "heads", 8)
    weights = untrained_model(folder / "m.safetensors", OWN)
    return judge_collection(weights, Collection((heads,), {}, folder / "cache"), CPU)


def _saying(judged: JudgedSet, logits: Callable[[Floats], Floats]) -> JudgedSet:
    """Return what a model would have that knows the labels so well."""
    truth = (2.0 * judged.labels - 1).astype(np.float32)
    return replace(judged, logits=np.stack((np.zeros_like(truth), logits(truth)), axis=1).astype(np.float32))


def test_a_better_model_has_a_paired_interval_above_nothing(judged: JudgedSet) -> None:
    good, bad = _saying(judged, lambda truth: 4 * truth), _saying(judged, lambda truth: -4 * truth)

    (more,) = paired_differences([bad, good])

    assert more["accuracy"] == {"value": 1, "low": 1, "high": 1}
    assert more["roc_auc"]["value"] == 1


def test_models_of_other_classes_are_not_compared(judged: JudgedSet) -> None:
    spec = replace(
        judged.weights.spec, classes=("no", "perhaps"), decision=replace(OWN.decision, positive=None)
    )
    other = replace(judged, weights=replace(judged.weights, spec=spec))

    with pytest.raises(DataError, match="other classes"):
        check_comparable([judged, other])


def test_twins_of_images_trained_on_are_told(judged: JudgedSet) -> None:
    groups = judged.groups.copy()
    groups[1] = groups[0]  # the second is a near-duplicate of the first
    known = replace(judged.weights, seen=Seen.of(trained=judged.dataset.hashes[:1]))
    twins = replace(judged, groups=groups, weights=known)

    assert twins_warning(judged) == ""
    assert twins_warning(twins).startswith("1 of these 16 images have a near-duplicate")


def test_mirrored_twins_in_a_folder_trained_on_are_told(judged: JudgedSet) -> None:
    dataset = judged.dataset
    mirrored = replace(
        dataset, pictures=dataset.pictures[:, :, ::-1], hashes=tuple(f"{n:064x}" for n in range(16))
    )

    assert twins_warning(judged, mirrored).startswith("16 of these 16 images")


def test_a_list_has_a_row_an_image_and_a_model(judged: JudgedSet, tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"

    assert write_list([judged, judged], path) == 32
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["file"] for row in rows[:16]] == [file.name for file in judged.dataset.files]
    for row in rows:
        assert row["predicted"] == ("yes" if float(row["score.yes"]) >= 0.4 else "no")
        assert row["distance"] == ""  # the model has no limit


def test_parquet_holds_what_csv_holds(judged: JudgedSet, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    write_list([judged], tmp_path / "scores.csv")
    write_list([judged], tmp_path / "scores.parquet")

    rows = list(csv.DictReader((tmp_path / "scores.csv").read_text().splitlines()))
    table = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    assert [row["file"] for row in table] == [row["file"] for row in rows]
    assert [row["score.yes"] for row in table] == [float(row["score.yes"]) for row in rows]
    assert table[0]["rejected"] is False


@pytest.mark.parametrize(("name", "words"), [("a.xlsx", "neither"), ("gone/a.csv", "no folder")])
def test_a_list_that_cannot_be_is_refused_first(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        check_list(tmp_path / name)
