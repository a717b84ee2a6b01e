"""`bt-train export`: files that other programs answer from as the network does, or none at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from config.errors import BtError, UsageError
from tests.support.training import train
from trainer.export.agreement import answered, check, compare, network_answers
from trainer.export.export import export
from trainer.export.onnx_file import onnx_answers, onnx_metadata
from trainer.export.openvino_files import openvino_answers
from trainer.images.arrays import Grey
from trainer.model.openvino_import import openvino_without_telemetry
from trainer.model.probes import probes
from trainer.model.spec import ModelSpec, Preprocessing, Provenance
from trainer.model.weights import Weights, read_weights, write_weights
from trainer.networks.loading import load, tensors_of
from trainer.networks.registry import build

pytestmark = pytest.mark.slow

_SIDE = 32


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return _weights(tmp_path_factory.mktemp("weights") / "model.safetensors", "cnn")


def _weights(path: Path, architecture: str) -> Weights:
    torch.manual_seed(3)
    preprocessing = Preprocessing(image_size=_SIDE)
    network = build(architecture, 3, None, preprocessing)
    source = {"name": "drawn", "licence": "CC0-1.0"}
    spec = ModelSpec(
        "tested", "2", architecture, ("a", "b", "c"), preprocessing=preprocessing,
        provenance=Provenance(data=(source,)),
    )  # fmt: skip
    write_weights(path, spec, tensors_of(network))
    return read_weights(path)


def test_both_formats_answer_as_the_network_does_for_any_number_of_pictures(
    weights: Weights, tmp_path: Path
) -> None:
    onnx, xml = tmp_path / "made.onnx", tmp_path / "made.xml"

    done = export(weights, onnx, xml, [])

    assert [path for path, _ in done] == [onnx, xml]
    assert all(one.pictures == 64 and one.worst < 1e-5 and one.labels == 0 for _, one in done)
    exactly = network_answers(load(weights))
    for answers in (onnx_answers(onnx), openvino_answers(xml)):
        for count in (1, 5):
            pictures = probes(_SIDE)[:count, None]
            for one, other in zip(answers(pictures), exactly(pictures), strict=True):
                np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_files_tell_spec_classes_licences_and_the_hash_of_the_weights(
    weights: Weights, tmp_path: Path
) -> None:
    onnx, xml = tmp_path / "made.onnx", tmp_path / "made.xml"

    export(weights, onnx, xml, [])

    told = onnx_metadata(onnx)
    network = openvino_without_telemetry().Core().read_model(str(xml))
    in_openvino = {key: network.get_rt_info(["bt_daemon", key]).astype(str) for key in told}
    assert ModelSpec.from_json(told["spec"]) == weights.spec
    assert json.loads(told["classes"]) == ["a", "b", "c"]
    assert json.loads(told["licences"]) == {"drawn": "CC0-1.0"}
    assert told["weights_sha256"] == weights.sha256
    assert "research use only" in told["notice"].lower()
    assert in_openvino["weights_sha256"] == weights.sha256
    assert ModelSpec.from_json(in_openvino["spec"]) == weights.spec


@pytest.mark.parametrize("architecture", ["lite0_six_map", "mobilenet_v3_small"])
def test_lesion_maps_and_networks_of_torchvision_are_exported_too(architecture: str, tmp_path: Path) -> None:
    made = _weights(tmp_path / "model.safetensors", architecture)

    ((_, agreement),) = export(made, tmp_path / "made.onnx", None, [])

    assert agreement.worst < 1e-4


def test_a_file_that_answers_otherwise_never_appears(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = weights.tensors["head.bias"].astype(np.float32) + np.float32(0.01)
    other = replace(weights, tensors={**weights.tensors, "head.bias": moved})
    monkeypatch.setattr("trainer.export.export.load", lambda _: load(other))
    monkeypatch.setattr("trainer.export.export.onnx_bytes", _of_another_network(weights))

    for target in ({"onnx": tmp_path / "made.onnx"}, {"openvino": tmp_path / "made.xml"}):
        with pytest.raises(BtError, match="computes something else than the network"):
            export(weights, target.get("onnx"), target.get("openvino"), [])

    assert not list(tmp_path.iterdir())


def _of_another_network(weights: Weights) -> Callable[..., bytes]:
    from trainer.export.onnx_file import onnx_bytes

    return lambda *_: onnx_bytes(load(weights), weights)


def test_answers_that_are_no_numbers_are_a_disagreement(weights: Weights) -> None:
    exactly = network_answers(load(weights))

    def broken(pictures: Grey) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        logits, features, maps = exactly(pictures)
        return logits * np.float32("nan"), features, maps

    agreement = compare(answered(exactly, [probes(_SIDE)[:9], probes(_SIDE)[9:10]]), broken)

    assert agreement.pictures == 10
    with pytest.raises(BtError):
        check(agreement, "this program")


@pytest.mark.parametrize(
    ("name", "words"),
    [("made.txt", "does not end with .onnx"), ("there.onnx", "is there already"), ("no/x.onnx", "no folder")],
)
def test_a_target_that_cannot_be_is_told_before_anything_is_computed(
    name: str, words: str, weights: Weights, tmp_path: Path
) -> None:
    (tmp_path / "there.onnx").write_bytes(b"kept")

    with pytest.raises(UsageError, match=words):
        export(weights, tmp_path / name, None, [])

    assert (tmp_path / "there.onnx").read_bytes() == b"kept"


def test_the_command_compares_on_images_of_a_folder_and_says_what_it_found(
    weights: Weights, tmp_path: Path
) -> None:
    from trainer.images.phantom import phantom

    (tmp_path / "images").mkdir()
    for number in range(3):
        phantom(number, lesion=False, label=False).save(tmp_path / "images" / f"{number}.png")
    (tmp_path / "images" / "notes.txt").write_text("no image")
    made = tmp_path / "made.onnx"

    done = train("export", weights.path, "--onnx", made, "--data", tmp_path / "images")
    nothing = train("export", weights.path)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{made} is written; largest differences from the network on 67 pictures:")
    assert onnx_metadata(made)["model"] == "tested 2"
    assert (nothing.returncode, "nothing to write" in nothing.stderr) == (2, True)
