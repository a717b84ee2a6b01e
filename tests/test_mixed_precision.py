"""Networks that are cut in two: the parts together are the whole, and a cut is never inside a block."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import daemon.compile_engine
from config.openvino_import import openvino_without_telemetry
from daemon.compile_engine import _convert, disagreement, make_engine, probe_batch
from daemon.engine import open_engine
from daemon.engine_openvino import MODEL
from daemon.mixed_precision import cuts, divided
from trainer.networks import build, load
from trainer.weights import default_weights, read_weights

# OpenVINO's converter traces the network, which torch calls deprecated.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*torch.jit.trace:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning"),
]
SIDE = 64


def _converted(architecture: str, folder: Path) -> Any:
    torch.manual_seed(0)
    _convert(build(architecture, 2).eval(), SIDE, folder)
    return openvino_without_telemetry().Core().read_model(str(folder / "model.xml"))


@pytest.mark.parametrize("architecture", ["cnn", "lite0_short", "resnet18"])
def test_the_parts_of_every_cut_compute_what_the_whole_computes(architecture: str, tmp_path: Path) -> None:
    openvino = openvino_without_telemetry()
    core = openvino.Core()
    whole = _converted(architecture, tmp_path)
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    pictures = np.random.default_rng(0).integers(0, 256, (3, 1, SIDE, SIDE), dtype=np.uint8)
    wanted = core.compile_model(whole, "CPU", exact)([pictures])

    places = cuts(whole)
    assert len(places) >= 3
    for place in places:
        front, back = divided(whole, place)
        handed = core.compile_model(front, "CPU", exact)([pictures])[0]
        found = core.compile_model(back, "CPU", exact)([handed])
        for number in range(3):
            np.testing.assert_allclose(found[number], wanted[number], rtol=1e-3, atol=1e-3)


def test_no_cut_is_inside_a_residual_block(tmp_path: Path) -> None:
    """Cut there, the back would lack the input that is added at the block's end: it could not be built."""
    whole = _converted("resnet18", tmp_path)
    order = {op.get_friendly_name(): number for number, op in enumerate(whole.get_ordered_ops())}
    added = [
        op
        for op in whole.get_ordered_ops()
        if op.get_type_name() == "Add" and "body" in op.get_friendly_name()
    ]

    inside = [
        (name, add.get_friendly_name())
        for name in cuts(whole)
        for add in added
        if order[name] < order[add.get_friendly_name()]
        and min(order[value.get_node().get_friendly_name()] for value in add.input_values()) < order[name]
    ]

    assert not inside


def test_what_bfloat16_would_change_stays_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the whole in bfloat16 differs too much, what is taken instead does not."""
    weights = read_weights(default_weights())
    probes = probe_batch(weights.spec)
    exact = replace(make_engine(default_weights(), tmp_path / "exact", "fp32"), why="")
    reference = open_engine(exact).run(probes)
    _convert(load(weights), weights.spec.preprocessing.image_size, tmp_path)
    rough = open_engine(replace(exact, precision="bf16", parts={MODEL: "bf16"}, folder=str(tmp_path))).run(
        probes
    )
    moved = rough.logits - reference.logits
    worst = float((moved.max(axis=1) - moved.min(axis=1)).max()) / weights.spec.decision.temperature / 4
    if worst < 1e-6:
        pytest.skip("this processor computes bfloat16 in float32")
    monkeypatch.setattr(daemon.compile_engine, "TOLERANCE", worst)  # of which a share is allowed: too little

    prepared = make_engine(default_weights(), tmp_path / "engine", "auto")

    assert disagreement(rough, reference, weights.spec)
    assert disagreement(open_engine(prepared).run(probes), reference, weights.spec) == ""
    assert "from the first layer on" in prepared.why
