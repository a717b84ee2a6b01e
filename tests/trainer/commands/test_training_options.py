"""`--val`, `--class-weights`, `--accumulate`, `--freeze`, `--lr find`: what they say is what is done."""

from __future__ import annotations

import csv
import json
import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from config.errors import BtError, UsageError
from tests.support.training import draw_heads, train
from trainer.commands.train_config import resolved_options
from trainer.data.training_set import TrainingSet
from trainer.model.spec import Preprocessing
from trainer.networks.classifier import Classifier
from trainer.networks.registry import build
from trainer.training.class_weights import class_weights
from trainer.training.config import Epoch, Plan, TrainingStart
from trainer.training.loop import TrainingLoop, fit
from trainer.training.lr_find import smoothed, steepest

SMALL = ("--image-size", "32", "--epochs", "1", "--batch", "8", "--samples", "16", "--arch", "seed-cnn",
         "--log", "none")  # fmt: skip
CPU = torch.device("cpu")


class _Quiet:
    def started(self, start: TrainingStart) -> None:
        self.start = start

    def stepped(self, epoch: int, step: int, steps: int, loss: float, accuracy: float) -> None: ...

    def finished_epoch(self, epoch: Epoch, *, best: bool) -> None: ...


def _data(count: int = 48) -> TrainingSet:
    chance = np.random.default_rng(0)
    labels = (np.arange(count) % 4 == 0).astype(np.int64)
    pictures = (chance.integers(0, 60, (count, 32, 32)) + 190 * labels[:, None, None]).astype(np.uint8)
    places = np.arange(count)
    return TrainingSet(
        pictures, labels, np.zeros(count, np.int64), places[: count - 12], places[count - 12 :]
    )


def _network(name: str = "seed-cnn") -> Classifier:
    torch.manual_seed(0)
    network = build(name, 2, None, Preprocessing(image_size=32))
    network.drop.p = 0.0  # its chances go by batches
    return network


def _trained(plan: Plan, name: str = "seed-cnn") -> dict[str, torch.Tensor]:
    network = _network(name)
    fit(network, _data(), plan, CPU, _Quiet())
    return network.state_dict()


def _largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((one[name].float() - other[name].float()).abs().max()) for name in one)


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in float32 on every processor: in bfloat16 sums in another order differ more."""
    monkeypatch.setattr("trainer.training.loop._autocast", lambda *_: nullcontext())


@pytest.mark.usefixtures("float32")
@pytest.mark.parametrize("weights", [None, np.array([1.0, 3.0], np.float32)])
def test_accumulated_gradients_are_those_of_the_larger_batch(weights: np.ndarray | None) -> None:
    """A network without norms: with them each part has statistics of its own."""
    data = replace(_data(), class_weights=weights)
    gradients = []
    for plan in (Plan(batch=24, epochs=1), Plan(batch=6, accumulate=4, epochs=1)):
        network = _network()
        loop = TrainingLoop(network, data, plan, CPU, _Quiet())
        network.train()
        loop.try_rate(1e-9, np.random.default_rng(0), torch.Generator().manual_seed(0))
        gradients.append([parameter.grad for parameter in network.parameters()])

    for one, other in zip(*gradients, strict=True):
        assert one is not None
        assert other is not None
        assert float(one.abs().max()) > 0
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("float32")
def test_a_training_with_accumulation_is_that_with_the_larger_batch() -> None:
    large = _trained(Plan(batch=24, epochs=2, samples_per_epoch=96))
    accumulated = _trained(Plan(batch=6, accumulate=4, epochs=2, samples_per_epoch=96))
    small = _trained(Plan(batch=6, epochs=2, samples_per_epoch=96))

    assert _largest_difference(large, accumulated) < 1e-4
    assert _largest_difference(large, small) > 1e-3  # it would be noticed


def test_class_weights_are_the_inverse_of_counts_or_what_is_given() -> None:
    labels = np.array([0] * 30 + [1] * 10)

    balanced = class_weights("balanced", ("no", "yes"), labels)

    assert balanced is not None
    assert balanced.tolist() == pytest.approx([40 / 60, 2.0])  # scikit-learn's
    assert class_weights("none", ("no", "yes"), labels) is None
    given = class_weights("yes=2.5", ("no", "yes"), labels)
    assert given is not None
    assert given.tolist() == [1.0, 2.5]


@pytest.mark.parametrize("text", ["yes", "yes=", "yes=0", "yes=-1", "yes=nan", "=2", "balance"])
def test_class_weights_that_are_none_are_one_line(text: str) -> None:
    with pytest.raises(UsageError, match="cannot be meant; write balanced, none, or yes=2,no=1"):
        class_weights(text, ("no", "yes"), np.array([0, 1]))


def test_a_class_weight_of_no_class_names_the_classes() -> None:
    with pytest.raises(UsageError, match="names ja, which is no class; classes are no, yes"):
        class_weights("ja=2", ("no", "yes"), np.array([0, 1]))


def test_the_loss_of_a_step_is_weighed_by_class() -> None:
    weights = np.array([1.0, 3.0], np.float32)
    data, network = replace(_data(), class_weights=weights), _network()
    plan = Plan(batch=24, epochs=1, label_smoothing=0.0)
    loop = TrainingLoop(network, data, plan, CPU, _Quiet())
    batch = loop._drawn(loop._lesions, np.random.default_rng(0), torch.Generator().manual_seed(0))
    network.train()
    with torch.no_grad():
        logits = network(batch.pictures)[0]
    each = functional.cross_entropy(logits, batch.labels, reduction="none").numpy()
    weight = weights[batch.labels.numpy()]

    loss, _ = loop.step(batch)

    assert loss == pytest.approx(float((each * weight).sum() / weight.sum()), rel=1e-4)


def test_balancing_twice_is_refused_and_once_is_resolved() -> None:
    options = {"class_weights": "balanced", "balance": None, "pretrained": False, "pretrained_file": None,
               "init": None, "freeze": None, "arch": "cnn", "epochs": None, "image_size": None}  # fmt: skip

    assert resolved_options(options)["balance"] == "none"
    assert resolved_options(options | {"class_weights": "none"})["balance"] == "source-label"
    with pytest.raises(UsageError, match="would balance twice"):
        resolved_options(options | {"balance": "label"})


def test_frozen_parts_stay_as_they_are_with_their_norms() -> None:
    network = build("lite0_short", 2, None, Preprocessing(image_size=32))
    network.freeze(3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fit(network, _data(), Plan(batch=8, epochs=1, samples_per_epoch=16, frozen=3), CPU, _Quiet())

    names = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
    assert names
    assert all(torch.equal(before[name], network.state_dict()[name]) for name in names)
    changed = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert any(not torch.equal(before[name], network.state_dict()[name]) for name in changed)


def test_the_rate_where_the_loss_falls_fastest_is_found_in_noise() -> None:
    rates = np.geomspace(1e-6, 1, 100)
    clean = 0.7 - 0.4 / (1 + np.exp(-4 * np.log10(rates / 1e-3)))  # falls fastest at 1e-3
    clean[rates > 0.05] = 3.0  # and diverges
    losses = clean + np.random.default_rng(1).normal(0, 0.03, 100)

    place, fall = steepest(smoothed(losses.tolist()))

    assert 3e-4 < rates[place] < 3e-3
    assert fall > 0.3
    with pytest.raises(BtError, match="no learning rate made the loss fall"):
        steepest(smoothed(np.linspace(0.7, 3, 100).tolist()))


@pytest.mark.slow
def test_lr_find_chooses_a_rate_draws_it_and_trains_with_it(tmp_path: Path) -> None:
    """Bright images against dark ones: the loss falls at some rate."""
    for label, tone in (("no", 40), ("yes", 200)):
        (tmp_path / "data" / label).mkdir(parents=True)
        from PIL import Image

        for number in range(12):
            noise = np.asarray(Image.effect_noise((64, 64), 30 + number)) // 8 + tone
            Image.fromarray(noise).save(tmp_path / "data" / label / f"{number}.png")

    done = train(
        "--data", tmp_path / "data", *SMALL, "--groups", "none", "--lr", "find", "-o", tmp_path / "run"
    )

    assert done.returncode == 0, done.stderr
    (chosen,) = re.findall(r"learning rate (\S+), where", done.stderr)
    assert (tmp_path / "run" / "lr_find.png").stat().st_size > 5_000
    plan = json.loads((tmp_path / "run" / "metrics.json").read_text())["plan"]
    assert plan["learning_rate"] == float(chosen)
    assert f"lr = {float(chosen)!r}\n" in (tmp_path / "run" / "run.toml").read_text()


@pytest.mark.slow
def test_val_is_what_is_judged_and_its_twins_are_not_learnt(tmp_path: Path) -> None:
    heads = draw_heads(tmp_path / "heads", 10)
    held_out = draw_heads(tmp_path / "held-out", 6, first=300)
    twin = next((held_out / "yes").iterdir())
    (heads / "yes" / "twin.png").write_bytes(twin.read_bytes())

    done = train("--data", heads, "--val", held_out, *SMALL, "-o", tmp_path / "run", "--deterministic")

    assert done.returncode == 0, done.stderr
    (twins,) = map(int, re.findall(r"^(\d+) twins? of the validation images tak", done.stderr, re.MULTILINE))
    assert twins >= 1  # at 32 pixels drawn heads may be twins by chance
    with (tmp_path / "run" / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["file"].split("/")[0] for row in rows} == {"held-out"}
    assert len(rows) == 12
    report = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert report["metrics"]["split"] == "by folder"
    trained_on = {one["source"]: one["trained_on"] for one in report["provenance"]["data"]}
    assert trained_on == {"heads": 21 - twins, "held-out": 0}
