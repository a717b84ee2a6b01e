"""`--exclude-list FILE`: what is on it takes no part, and is told of wherever the model is described."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.training import Run, draw_heads, train, trained
from trainer.data.exclusions import read_exclusions
from trainer.evaluation.ood import LimitExamples
from trainer.model.weights import read_weights
from trainer.training.config import Plan, RunConfig
from trainer.training.prepare import open_experiment
from trainer.training.progress import Console

pytestmark = pytest.mark.slow

SMALL = ("--image-size", "32", "--epochs", "1", "--batch", "8", "--samples", "24", "--arch", "seed-cnn")


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training without two files: one that is left out, one that is to be rejected."""
    folder = tmp_path_factory.mktemp("listed")
    heads = draw_heads(folder / "heads", 14)
    exclusions = folder / "exclusions.csv"
    exclusions.write_text(
        "file,use,reason\nheads/no/no 1.png,leave-out,a mass\nheads/no/no 2.png,reject,head CT\n"
        "elsewhere/no/1.png,reject,of another collection\n"
    )
    return trained(folder / "run", "--data", heads, "--exclude-list", exclusions, *SMALL, "--json")


def test_what_was_left_out_is_said_and_stands_in_model_and_card(listed: Run) -> None:
    assert listed.done.returncode == 0, listed.done.stderr
    assert "left out 2 files of the exclude list, 1 of them examples to reject" in listed.done.stderr
    (source,) = json.loads(listed.done.stdout)["provenance"]["data"]
    assert source["images"] == {"no": 12, "yes": 14}
    assert source["excluded"] == {"leave-out": 1, "reject": 1}
    weights = read_weights(listed.folder / "model.safetensors")
    assert weights.spec.provenance.data[0]["excluded"] == {"leave-out": 1, "reject": 1}
    assert "heads 2 (1 to reject)" in (listed.folder / "CARD.md").read_text()


@pytest.mark.parametrize("command", ["eval", "audit"])
def test_other_commands_take_the_list_too(listed: Run, command: str) -> None:
    heads, exclusions = listed.options[1], listed.options[3]
    weights = ("--weights", listed.folder / "model.safetensors") if command == "eval" else ()

    done = train(command, "--data", heads, "--exclude-list", exclusions, *weights, "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["excluded"].startswith("left out 2 files")


def test_what_is_to_be_rejected_serves_the_limit(listed: Run, tmp_path: Path) -> None:
    heads, exclusions = Path(listed.options[1]), Path(listed.options[3])
    config = RunConfig(
        (heads,), tmp_path / "run", tmp_path / "cache", Plan(), {}, image_size=32,
        exclusions=read_exclusions(exclusions),
    )  # fmt: skip

    with Console(0) as console:
        examples = open_experiment(config, console).examples

    assert isinstance(examples, LimitExamples)
    assert [some.shape for some in examples.strangers] == [(1, 32, 32)]
    assert examples.heads == ()
