"""`bt-train upgrade`: an older file gains reference answers and keeps everything else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import REPOSITORY
from tests.support.training import train
from trainer.model.probes import probes
from trainer.model.reference import stored_reference
from trainer.model.spec import SPEC_FORMAT, Preprocessing
from trainer.model.weights import read_weights
from trainer.networks.inference import reference_of
from trainer.networks.loading import load
from trainer.networks.registry import build

pytestmark = pytest.mark.slow

EARLIER = REPOSITORY / "tests" / "earlier" / "weights.safetensors"


def test_an_upgraded_file_holds_what_its_network_says_and_is_otherwise_the_same(tmp_path: Path) -> None:
    made = tmp_path / "new.safetensors"

    done = train("upgrade", EARLIER, "-o", made)

    before, after = read_weights(EARLIER), read_weights(made)
    reference = stored_reference(after.tensors, len(after.spec.classes))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{made} is written (sha256 {after.sha256[:8]}).\n"
    assert (before.spec.format, after.spec.format) == (1, SPEC_FORMAT)
    assert after.spec.decision == before.spec.decision
    assert all(np.array_equal(after.tensors[name], value) for name, value in before.tensors.items())
    assert after.spec.provenance.command.splitlines()[-1].startswith("bt-train upgrade ")
    assert reference is not None
    with torch.inference_mode():
        logits = load(before)(torch.from_numpy(probes(32)[:, None]))[0].numpy()
    np.testing.assert_allclose(reference.logits, logits, atol=1e-5)


def test_a_file_of_today_is_not_upgraded_and_nothing_is_overwritten(tmp_path: Path) -> None:
    made = tmp_path / "new.safetensors"
    train("upgrade", EARLIER, "-o", made)

    again = train("upgrade", made, "-o", tmp_path / "newer.safetensors")
    over = train("upgrade", EARLIER, "-o", made)

    assert (again.returncode, over.returncode) == (2, 2)
    assert "holds reference answers already" in again.stderr
    assert "is there already" in over.stderr
    assert not (tmp_path / "newer.safetensors").exists()


def test_reference_answers_are_computed_a_few_pictures_at_a_time() -> None:
    network = build("cnn", 2, {"channels": [4, 4, 8, 8]}).eval()
    seen: list[int] = []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))

    reference = reference_of(network, Preprocessing(image_size=32))

    with torch.inference_mode():
        logits, features, _ = network(torch.from_numpy(probes(32)[:, None]))
    assert max(seen[:-1]) == 8
    np.testing.assert_allclose(reference.logits, logits.numpy(), rtol=1e-4, atol=1e-5)
    # Rounded to float16.
    np.testing.assert_allclose(reference.features, features.numpy(), rtol=6e-4, atol=1e-5)
    assert (reference.features == reference.features.astype(np.float16)).all()
