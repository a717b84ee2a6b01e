"""Probe pictures are the same bytes for ever; reference answers are whole or refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from config.errors import WeightsError
from trainer.model.identity import default_weights
from trainer.model.probes import PROBES, probes
from trainer.model.reference import Reference, stored_reference
from trainer.model.spec import SPEC_FORMAT, ModelSpec
from trainer.model.weights import read_weights, write_weights


@pytest.mark.parametrize(
    ("side", "digest"),
    [
        (32, "ba4c47fa9bea31bd30bdcceee0ab708ee6f2e0d9a072e496f4c2a9a183663db8"),
        (160, "7573a0aa67ec0851213ce51b179badd9b5defb8cb2223b59a4aea32ebe454c70"),
    ],
)
def test_probe_pictures_never_change(side: int, digest: str) -> None:
    """Weights files hold what networks said of exactly these."""
    pictures = probes(side)

    assert pictures.shape == (PROBES, side, side)
    assert hashlib.sha256(pictures.tobytes()).hexdigest() == digest


def test_the_shipped_file_holds_a_reference() -> None:
    weights = read_weights(default_weights())

    reference = stored_reference(weights.tensors, 2)

    assert weights.spec.format == SPEC_FORMAT
    assert reference is not None
    assert (reference.logits.shape, reference.features.shape) == ((PROBES, 2), (PROBES, 408))


def test_a_reference_is_read_as_it_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    reference = Reference(
        rng.normal(size=(PROBES, 2)).astype(np.float32),
        rng.normal(size=(PROBES, 5)).astype(np.float32),
        rng.normal(size=(PROBES, 2)).astype(np.float32),
    )
    assert reference.maps is not None
    maps = np.broadcast_to(reference.maps[:, :, None, None], (PROBES, 2, 3, 3))
    spec = ModelSpec("m", "1", "cnn", ("no", "yes"))
    write_weights(tmp_path / "m.safetensors", spec, reference.tensors())

    read = stored_reference(read_weights(tmp_path / "m.safetensors").tensors, 2)

    assert read is not None
    assert np.array_equal(read.logits, reference.logits)
    assert np.array_equal(read.features, reference.features)
    assert read.difference(reference.logits, reference.features, maps) == ""
    assert "logits are (3,), not (2,)" in read.difference(
        np.zeros((PROBES, 3), np.float32), reference.features, maps
    )
    assert "maps differ by 0.5" in read.difference(reference.logits, reference.features, maps + 0.5)


@pytest.mark.parametrize(
    "change",
    [
        {"reference.logits": None},
        {"reference.features": None},
        {"reference.logits": np.zeros((PROBES, 3), np.float32)},
        {"reference.features": np.zeros((PROBES - 1, 5), np.float32)},
        {"reference.features": np.zeros(PROBES, np.float32)},
        {"reference.maps": np.zeros((PROBES, 3), np.float32)},
    ],
)
def test_half_a_reference_is_refused(tmp_path: Path, change: dict[str, np.ndarray | None]) -> None:
    whole = Reference(np.zeros((PROBES, 2), np.float32), np.zeros((PROBES, 5), np.float32)).tensors()
    tensors = {name: value for name, value in (whole | change).items() if value is not None}
    write_weights(tmp_path / "m.safetensors", ModelSpec("m", "1", "cnn", ("no", "yes")), tensors)

    with pytest.raises(WeightsError, match="reference answers are damaged"):
        read_weights(tmp_path / "m.safetensors")
