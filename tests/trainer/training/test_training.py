"""The parts of a training: finding and decoding images, sampling, the loop, the checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from config.errors import DataError, UsageError
from tests.support.training import draw_heads
from trainer.data.dataset import Dataset, find_images, load_dataset, parse_merge
from trainer.data.training_set import TrainingSet
from trainer.model.spec import Preprocessing
from trainer.networks.classifier import Classifier
from trainer.networks.inference import predict
from trainer.networks.registry import build
from trainer.training.checkpoint import Checkpoint
from trainer.training.config import Epoch, Plan, TrainingStart
from trainer.training.loop import _learning_rate, _parameter_groups, _sampling_weights, fit

HOW = Preprocessing(image_size=32)
PLAN = Plan(epochs=3, batch=8, patience=0, samples_per_epoch=24)
CPU = torch.device("cpu")


class Quiet:
    """A listener that only counts."""

    def __init__(self) -> None:
        self.epochs: list[Epoch] = []

    def started(self, start: TrainingStart) -> None: ...

    def stepped(self, *_: Any) -> None: ...

    def finished_epoch(self, epoch: Epoch, *, best: bool) -> None:
        self.epochs.append(epoch)


class Cut(Quiet):
    """A listener that interrupts the training after an epoch."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._after = after

    def finished_epoch(self, epoch: Epoch, *, best: bool) -> None:
        super().finished_epoch(epoch, best=best)
        if epoch.epoch == self._after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Dataset]:
    """A folder of drawn heads, a cache, and the dataset made of them."""
    root = draw_heads(tmp_path_factory.mktemp("data") / "heads", 12)
    cache = tmp_path_factory.mktemp("cache")
    return root, cache, load_dataset(find_images([root]), HOW, cache, workers=1)


def _pictures(dataset: Dataset) -> TrainingSet:
    places = np.arange(len(dataset))
    return TrainingSet(
        dataset.pictures, dataset.labels, dataset.sources, places[places % 4 != 0], places[places % 4 == 0]
    )


def _network() -> Classifier:
    torch.manual_seed(0)
    return build("seed-cnn", 2, None, HOW)


def _state(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_every_image_gets_the_class_of_its_folder_and_the_source_of_its_root(
    cached: tuple[Path, Path, Dataset],
) -> None:
    _, _, dataset = cached

    assert dataset.classes == ("no", "yes")
    assert dataset.source_names == ("heads",)
    assert dataset.pictures.shape == (24, 32, 32)
    assert [file.label for file in dataset.files] == [dataset.classes[label] for label in dataset.labels]
    assert dataset.files[0].name == "heads/no/no 0.png"


def test_a_second_load_decodes_nothing(
    cached: tuple[Path, Path, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache, dataset = cached
    monkeypatch.setattr("trainer.data.dataset._decode_all", lambda *_: pytest.fail("decoded again"))

    again = load_dataset(find_images([root]), HOW, cache)

    assert (again.pictures == dataset.pictures).all()
    assert again.hashes == dataset.hashes


@pytest.mark.slow
def test_a_damaged_cache_is_made_again(tmp_path: Path) -> None:
    root = draw_heads(tmp_path / "heads", 2)
    first = load_dataset(find_images([root]), HOW, tmp_path / "cache", workers=1)
    for path in (tmp_path / "cache" / "pictures").iterdir():
        path.write_bytes(path.read_bytes()[:50])

    again = load_dataset(find_images([root]), HOW, tmp_path / "cache", workers=1)

    assert (again.pictures == first.pictures).all()


def test_an_unreadable_image_is_left_out_with_its_reason(tmp_path: Path) -> None:
    root = draw_heads(tmp_path / "heads", 2)
    (root / "yes" / "empty.jpg").touch()

    dataset = load_dataset(find_images([root]), HOW, tmp_path / "cache", workers=1)

    assert len(dataset) == 4
    ((file, reason),) = dataset.unreadable
    assert file.path.name == "empty.jpg"
    assert reason


def test_images_that_are_all_unreadable_are_a_data_error(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / "data" / label).mkdir(parents=True)
        (tmp_path / "data" / label / "x.jpg").write_text("no image")

    with pytest.raises(DataError, match="none of the images could be read"):
        load_dataset(find_images([tmp_path / "data"]), HOW, tmp_path / "cache", workers=1)


def test_two_roots_of_one_name_are_two_sources(tmp_path: Path) -> None:
    roots = [draw_heads(tmp_path / place / "data", 1) for place in ("first", "second")]

    sources = {image.source for image in find_images(roots)}

    assert sources == {"data", "second/data"}


def test_folders_are_merged_into_a_class(tmp_path: Path) -> None:
    draw_heads(tmp_path, 1, ("glioma", "meningioma"))
    draw_heads(tmp_path, 1, ("notumor", "pituitary"))
    merge = parse_merge(["yes=glioma, meningioma,pituitary", "no=notumor"])

    labels = {image.path.parent.name: image.label for image in find_images([tmp_path], merge)}

    assert labels == {"glioma": "yes", "meningioma": "yes", "pituitary": "yes", "notumor": "no"}


@pytest.mark.parametrize("rule", ["yes", "=a", "yes=", "yes=,"])
def test_a_merge_rule_that_is_none_is_a_usage_error(rule: str) -> None:
    with pytest.raises(UsageError, match="is no rule"):
        parse_merge([rule])


def test_sampling_gives_classes_equal_weight_and_small_sources_more() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    sources = np.array([0] * 81 + [1] * 9 + [0] * 10)
    everything = np.arange(100)
    data = TrainingSet(np.zeros((100, 1, 1), np.uint8), labels, sources, everything, everything)

    chances = _sampling_weights(data, Plan(balance="source-label"))

    assert chances is not None
    assert chances.sum() == pytest.approx(1)
    assert chances[labels == 0].sum() == pytest.approx(0.5)
    # 81 against 9 images of one class: drawn 9 to 3, not 9 to 1
    assert chances[:81].sum() / chances[81:90].sum() == pytest.approx(3)


def test_the_learning_rate_warms_up_and_falls_to_nothing() -> None:
    rates = [_learning_rate(PLAN, step, 1000) for step in range(1000)]

    assert rates[0] < 0.02 * PLAN.learning_rate
    assert max(rates) == pytest.approx(PLAN.learning_rate, rel=0.05)
    assert rates[-1] < 1e-4 * PLAN.learning_rate


def test_norms_and_biases_are_not_decayed() -> None:
    network = build("cnn", 2)

    groups = _parameter_groups(network, replace(PLAN, weight_decay=0.1, body_rate=0.3))

    for group in groups:
        assert all((parameter.ndim > 1) == (group["weight_decay"] > 0) for parameter in group["params"])
    assert [group["share"] for group in groups] == [1.0, 1.0, 0.3, 0.3]
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))


@pytest.mark.slow
def test_training_learns_what_there_is_to_learn(tmp_path: Path) -> None:
    """Bright pictures against dark ones: a network that cannot learn that learns nothing."""
    chance = np.random.default_rng(0)
    labels = np.arange(64) % 2
    pictures = (chance.integers(0, 60, (64, 32, 32)) + 190 * labels[:, None, None]).astype(np.uint8)
    places = np.arange(64)
    data = TrainingSet(pictures, labels, np.zeros(64, np.int64), places[:48], places[48:])
    torch.manual_seed(0)
    network = build("cnn", 2, {"channels": (8, 8, 8, 8)}, HOW)

    fit(
        network,
        data,
        replace(PLAN, epochs=15, batch=16, learning_rate=5e-3, samples_per_epoch=48),
        CPU,
        Quiet(),
    )

    logits, _ = predict(network, data.pictures[data.validation], CPU)
    assert (logits.argmax(1) == labels[48:]).mean() >= 0.9


@pytest.mark.slow
def test_the_same_seed_trains_the_same_weights(cached: tuple[Path, Path, Dataset]) -> None:
    first, second = _network(), _network()

    fit(first, _pictures(cached[2]), PLAN, CPU, Quiet())
    fit(second, _pictures(cached[2]), PLAN, CPU, Quiet())

    assert all(torch.equal(value, _state(second)[name]) for name, value in _state(first).items())


@pytest.mark.parametrize("after", [1, 2])
def test_an_interrupted_training_goes_on_to_the_same_weights(
    cached: tuple[Path, Path, Dataset], tmp_path: Path, after: int
) -> None:
    data = _pictures(cached[2])
    whole, cut, resumed = _network(), _network(), build("seed-cnn", 2, None, HOW)
    path = tmp_path / "checkpoint.safetensors"
    fit(whole, data, PLAN, CPU, Quiet())
    with pytest.raises(KeyboardInterrupt):
        fit(cut, data, PLAN, CPU, Cut(after), Checkpoint(path))
    listener = Quiet()

    trained = fit(resumed, data, PLAN, CPU, listener, Checkpoint(path, resume=True))

    assert [epoch.epoch for epoch in listener.epochs] == list(range(after + 1, 4))
    assert len(trained.history) == 3
    assert all(torch.equal(value, _state(resumed)[name]) for name, value in _state(whole).items())


def test_a_checkpoint_of_another_setting_is_refused(
    cached: tuple[Path, Path, Dataset], tmp_path: Path
) -> None:
    data, network = _pictures(cached[2]), _network()
    path = tmp_path / "checkpoint.safetensors"
    short = replace(PLAN, epochs=1)
    fit(network, data, short, CPU, Quiet(), Checkpoint(path, {"images": "abc"}))

    with pytest.raises(UsageError, match="another images"):
        fit(network, data, short, CPU, Quiet(), Checkpoint(path, {"images": "def"}, resume=True))


def test_a_damaged_checkpoint_is_a_usage_error(cached: tuple[Path, Path, Dataset], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(b"\x10\0\0\0\0\0\0\0{not json at all")

    with pytest.raises(UsageError, match="cannot resume"):
        fit(_network(), _pictures(cached[2]), PLAN, CPU, Quiet(), Checkpoint(path, resume=True))


def test_training_stops_when_patience_is_used_up(cached: tuple[Path, Path, Dataset]) -> None:
    plan = replace(PLAN, epochs=200, learning_rate=1e-12, patience=2)

    trained = fit(_network(), _pictures(cached[2]), plan, CPU, Quiet())

    assert trained.stopped == "patience"
    assert len(trained.history) < 200


def test_training_stops_in_time(cached: tuple[Path, Path, Dataset]) -> None:
    plan = replace(PLAN, epochs=10_000, max_minutes=0.01)

    trained = fit(_network(), _pictures(cached[2]), plan, CPU, Quiet())

    assert trained.stopped == "time"
    assert 1 <= len(trained.history) < 10_000


def test_a_checkpoint_holds_no_pickle(cached: tuple[Path, Path, Dataset], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    fit(_network(), _pictures(cached[2]), replace(PLAN, epochs=1), CPU, Quiet(), checkpoint=Checkpoint(path))

    head = path.read_bytes()[8:9]

    assert head == b"{"
