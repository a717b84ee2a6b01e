"""`bt-train --colour`: drawn flowers that only colour tells apart, trained, judged, killed and resumed."""

from __future__ import annotations

import csv
import json
import signal
from pathlib import Path

import numpy as np
import pytest

from config.errors import UsageError
from daemon.engines.build_openvino import make_engine
from daemon.engines.factory import open_engine
from tests.support.flowers import PETALS, draw_flowers
from tests.support.training import Run, Training, train, trained
from trainer.images.decode import Limits, decode, read_file
from trainer.model.prediction import judge
from trainer.model.preprocess import preprocess
from trainer.model.weights import read_weights
from trainer.training.config import Plan, RunConfig
from trainer.training.prepare import _check_colour

pytestmark = pytest.mark.slow  # to import torch takes seconds already


@pytest.fixture(scope="module")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_flowers(tmp_path_factory.mktemp("garden") / "flowers", 14)


@pytest.fixture(scope="module")
def run(flowers: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training of a minute."""
    folder = tmp_path_factory.mktemp("colour") / "run"
    size = ("--image-size", "32", "--epochs", "4", "--samples", "320", "--name", "flowers")
    return trained(folder, "--data", flowers, "--colour", *size)


def test_a_colour_model_tells_apart_what_grey_cannot(run: Run, flowers: Path, tmp_path: Path) -> None:
    """The engine that the daemon makes of it judges flowers that nobody has seen."""
    assert run.done.returncode == 0, run.done.stderr
    unseen = draw_flowers(tmp_path / "unseen", 4, first=500)
    weights = read_weights(run.folder / "model.safetensors")
    how = weights.spec.preprocessing
    assert (how.channels, how.crop_head) == (3, False)
    engine = open_engine(make_engine(run.folder / "model.safetensors", tmp_path / "engine", "fp32"))
    files = sorted(unseen.rglob("*.jpg"))
    slices = [decode(read_file(one, Limits()).data, Limits(), 32, colour=True).slices[0] for one in files]
    inputs = np.stack([preprocess(one.image, how) for one in slices])

    def right(pictures: np.typing.NDArray[np.uint8]) -> float:
        said = engine.run(pictures)
        found = judge(said.logits, said.features, weights.spec, weights.tensors)
        likeliest = [weights.spec.classes[int(np.argmax(one.probabilities))] for one in found]
        return float(np.mean([name == path.parent.name for name, path in zip(likeliest, files, strict=True)]))

    assert right(inputs) >= 0.85
    luma = inputs.mean(axis=3, keepdims=True).round().astype(np.uint8)
    assert right(np.repeat(luma, 3, axis=3)) <= 0.5  # of five classes; without colour it cannot know


def test_a_killed_colour_training_resumes_to_the_same_weights(run: Run, tmp_path: Path) -> None:
    training = Training(*run.options, "-o", tmp_path / "cut")
    for line in training.errors:
        if line.startswith("epoch 2/"):
            break
    code, _ = training.stop(signal.SIGKILL)
    resumed = train(*run.options, "-o", tmp_path / "cut", "--resume")

    assert (code, resumed.returncode) == (-signal.SIGKILL, 0), resumed.stderr
    assert "epoch 2/" not in resumed.stderr
    one = read_weights(run.folder / "model.safetensors").tensors
    other = read_weights(tmp_path / "cut" / "model.safetensors").tensors
    assert one.keys() == other.keys()
    assert all((one[name] == other[name]).all() for name in one)


def test_eval_lists_every_image_with_its_scores(run: Run, flowers: Path, tmp_path: Path) -> None:
    weights = run.folder / "model.safetensors"
    listed, plots = tmp_path / "scores.csv", tmp_path / "plots"

    done = train("eval", "--data", flowers, "--weights", weights, "--list", listed, "--plots", plots)

    assert done.returncode == 0, done.stderr
    assert "trained on" in done.stderr  # the very images
    rows = list(csv.DictReader(listed.read_text().splitlines()))
    assert len(rows) == 5 * 14
    assert {row["label"] for row in rows} == set(PETALS)
    for row in rows:
        scores = {name: float(row[f"score.{name}"]) for name in PETALS}
        assert sum(scores.values()) == pytest.approx(1, abs=1e-4)
        assert row["predicted"] == max(scores, key=lambda name: scores[name])
        assert row["rejected"] == str(row["verdict"] == "rejected")
    assert {path.name for path in plots.iterdir()} == {"curves.png", "confusion.png", "worst.png"}


def test_eval_compares_models_on_the_same_images(run: Run, flowers: Path, tmp_path: Path) -> None:
    weights = run.folder / "model.safetensors"
    both = ("--weights", weights, "--weights", weights)

    done = train("eval", "--data", flowers, *both, "--json", "--list", tmp_path / "scores.parquet")

    assert done.returncode == 0, done.stderr
    (difference,) = json.loads(done.stdout)["more_than_the_first"]
    assert difference["accuracy"] == {"value": 0, "low": 0, "high": 0}  # it is the same model


def test_eval_refuses_a_list_of_another_kind_before_it_judges(flowers: Path, tmp_path: Path) -> None:
    done = train("eval", "--data", flowers, "--list", tmp_path / "scores.xlsx")

    assert done.returncode == 2
    assert "ends in neither .csv nor .parquet" in done.stderr


def test_what_is_known_of_heads_only_is_refused(tmp_path: Path) -> None:
    config = RunConfig((tmp_path,), tmp_path, tmp_path, Plan(), {}, colour=True, lesions=0.5)

    with pytest.raises(UsageError, match="--lesions is for grey slices"):
        _check_colour(config)
