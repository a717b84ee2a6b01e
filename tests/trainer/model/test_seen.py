"""Figures on the images that a model learnt from are too good, and it is told."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from tests.support.training import draw_heads, train
from trainer.model.identity import default_weights
from trainer.model.seen import Seen, seen_warning
from trainer.model.spec import ModelSpec
from trainer.model.weights import SPEC_KEY, read_weights, write_weights

SPEC = ModelSpec("test", "1", "cnn", ("no", "yes"))
OTHERS = [f"{number}" + "0" * 63 for number in range(1, 8)]
TENSORS = {"head.bias": np.zeros(2, np.float32)}


@pytest.mark.defects(37)
def test_a_weights_file_tells_which_images_it_knows_and_is_the_same_each_time(tmp_path: Path) -> None:
    seen = Seen.of(trained=OTHERS[:5], fitted=OTHERS[5:])

    digests = {write_weights(tmp_path / f"{n}.safetensors", SPEC, TENSORS, seen) for n in range(12)}

    assert read_weights(tmp_path / "0.safetensors").seen == seen
    assert len(digests) == 1


@pytest.mark.defects(37)
def test_what_an_older_program_reads_of_a_weights_file_is_unchanged(tmp_path: Path) -> None:
    """Which asks for the description by its key and gives every tensor to the network."""
    path = tmp_path / "w.safetensors"
    write_weights(path, SPEC, TENSORS, Seen.of(trained=OTHERS))

    with safe_open(path, framework="np") as stream:
        assert ModelSpec.from_json(stream.metadata()[SPEC_KEY]) == SPEC
        assert list(stream.keys()) == ["head.bias"]


def test_lists_of_earlier_files_are_read_and_joined_with_new_ones() -> None:
    """They hold eight bytes of each image, and do not say so."""
    earlier = b"".join(bytes.fromhex(one)[:8] for one in OTHERS[:4])

    seen = Seen.from_metadata({"bt_daemon.trained": base64.b64encode(earlier).decode()})

    assert seen == Seen.of(trained=OTHERS[:4])
    assert Seen.from_metadata((seen | Seen.of(trained=OTHERS[4:])).metadata()) == Seen.of(trained=OTHERS)


@pytest.mark.parametrize("text", ["?", "AAAA", "ä"])
def test_a_damaged_list_of_images_is_none(text: str) -> None:
    assert Seen.from_metadata({"bt_daemon.trained": text}) == Seen()


@pytest.mark.defects(37)
@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (Seen(), ""),
        (Seen.of(trained=OTHERS[:1]), "trained on 1 of these 7 images: figures on them are too good"),
        (Seen.of(trained=OTHERS[:2], fitted=OTHERS[2:]), "trained on 2 and fitted to 5 of these 7 images"),
        (Seen.of(trained=["f" * 64]), ""),
    ],
)
def test_known_images_are_counted(seen: Seen, words: str) -> None:
    told = seen_warning(seen, ["a"], OTHERS, ["b"])

    assert words in told
    assert bool(words) == bool(told)


@pytest.mark.defects(37)
def test_of_a_model_that_names_its_sources_only_these_are_compared() -> None:
    """So the shipped one: which images it learnt from was not kept."""
    sources = [str(one["source"]) for one in read_weights(default_weights()).spec.provenance.data]

    assert "images from brain-mri-253, it does not say on which" in seen_warning(
        Seen(), sources, OTHERS, ["brain-mri-253", "ours"]
    )
    assert seen_warning(Seen(), sources, OTHERS, ["ours"]) == ""


@pytest.mark.slow
@pytest.mark.defects(37)
def test_eval_and_calibrate_warn_of_images_that_the_model_was_trained_on(tmp_path: Path) -> None:
    heads = draw_heads(tmp_path / "heads", 14)
    run, made = tmp_path / "run", tmp_path / "ours.safetensors"
    small = ("--image-size", "32", "--epochs", "1", "--batch", "8", "--samples", "24", "--arch", "seed-cnn")
    trained = train("--data", heads, "-o", run, *small)
    weights = run / "model.safetensors"
    other = draw_heads(tmp_path / "other", 20, first=100)

    known = train("eval", "--weights", weights, "--data", heads)
    unknown = train("eval", "--weights", weights, "--data", other, "--json")
    fitted = train("calibrate", "--weights", weights, "--data", other, "-o", made)
    again = train("eval", "--weights", made, "--data", other)

    assert [done.returncode for done in (trained, known, unknown, fitted, again)] == [0] * 5, fitted.stderr
    held_out = len((run / "validation.txt").read_text().split())
    assert (
        f"warning: the model was trained on {28 - held_out} and fitted to {held_out} of these 28 images: "
        "figures on them are too good\n"
    ) in known.stderr
    assert "warning" not in unknown.stderr
    assert json.loads(unknown.stdout)["warning"] == ""
    assert "warning" not in fitted.stderr
    assert (
        f"{made} is written (sha256 {read_weights(made).sha256[:8]}): temperature, threshold" in fitted.stdout
    )
    assert "fitted to 40 of these 40 images" in again.stderr
    assert replace(read_weights(made).seen, fitted=frozenset()) == replace(
        read_weights(weights).seen, fitted=frozenset()
    )
