"""`bt-train --folds`, `--leave-source-out`, `--external`: who is judged has taken no part."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.dicom_folders import CANARY, draw_dicom_series
from tests.support.training import Run, draw_heads, train, trained
from trainer.model.weights import read_weights
from trainer.networks.bfloat16 import round_to_bfloat16
from trainer.networks.registry import build

SMALL = ("--image-size", "32", "--epochs", "1", "--batch", "8", "--samples", "16", "--arch", "seed-cnn")


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_heads(tmp_path_factory.mktemp("data") / "heads", 14)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_heads(tmp_path_factory.mktemp("data") / "others", 10, first=500)


@pytest.fixture(scope="module")
def second(heads: Path, others: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another source, with one image of the first in it."""
    root = shutil.copytree(others, tmp_path_factory.mktemp("second") / "second")
    shutil.copy(next((heads / "yes").iterdir()), root / "yes" / "twin.png")
    return root


def _predictions(run: Path) -> list[dict[str, str]]:
    with (run / "predictions.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def folds(heads: Path, others: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training after three folds, judged on images of another collection too."""
    folder = tmp_path_factory.mktemp("folds")
    outside = folder / "outside"
    shutil.copytree(others / "yes", outside / "yes")  # one class only, as healthy volunteers are
    shutil.copy(next((heads / "yes").iterdir()), outside / "yes" / "twin.png")
    options = ("--data", heads, *SMALL, "--folds", "3", "--external", outside)
    return trained(folder / "run", *options)


@pytest.fixture(scope="module")
def gone_on(folds: Run, heads: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training that starts from the weights of `folds`, with another seed."""
    folder = tmp_path_factory.mktemp("gone-on")
    options = ("--data", heads, *SMALL, "--init", folds.folder / "model.safetensors", "--seed", "5")
    return trained(folder / "run", *options)


@pytest.mark.slow
def test_folds_judge_every_image_once_and_the_card_tells(folds: Run) -> None:
    assert folds.done.returncode == 0, folds.done.stderr
    told = _predictions(folds.folder / "folds")
    assert len({row["file"] for row in told}) == len(told) == 28
    assert {row["round"] for row in told} == {"fold-1", "fold-2", "fold-3"}
    report = json.loads((folds.folder / "folds" / "rounds.json").read_text())
    assert report["out_of_fold"]["count"] == 28
    assert sum(map(sum, report["out_of_fold"]["confusion"])) == 28
    right = sum((float(row["p_yes"]) >= 0.5) == (row["label"] == "yes") for row in told)
    assert right / 28 == pytest.approx(report["out_of_fold"]["at_one_half"]["accuracy"]["value"], abs=1e-5)
    assert "## Out of fold" in (folds.folder / "CARD.md").read_text()
    assert "out of fold" in folds.done.stderr


@pytest.mark.slow
def test_a_killed_run_of_folds_goes_on_where_it_was(folds: Run, tmp_path: Path) -> None:
    run = shutil.copytree(folds.folder, tmp_path / "run")
    before = (run / "folds" / "predictions.csv").read_bytes()
    (run / "folds" / "predictions.csv").unlink()

    again = train(*folds.options, "-o", run, "--resume")

    assert (folds.done.returncode, again.returncode) == (0, 0), again.stderr
    assert (run / "folds" / "predictions.csv").read_bytes() == before
    assert "epoch 1/1" not in again.stderr  # nothing was trained again


@pytest.mark.slow
def test_a_left_out_source_is_judged_and_its_twins_are_not_learnt(
    heads: Path, second: Path, tmp_path: Path
) -> None:
    done = train(
        "--data", heads, "--data", second, "-o", tmp_path / "run", *SMALL, "--leave-source-out", "all"
    )

    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "run" / "left-out" / "rounds.json").read_text())
    assert {name: told["count"] for name, told in report["left_out"].items()} == {"heads": 28, "second": 21}
    assert "twins of heads elsewhere take no part" in done.stderr
    decision = json.loads((tmp_path / "run" / "metrics.json").read_text())["decision"]
    assert decision == report["pooled"]["decision"]  # what is usual at a source it never saw
    assert "## On sources it never saw" in (tmp_path / "run" / "CARD.md").read_text()


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training after two folds on DICOM series of 36 patients, that nothing but tags tells."""
    folder = tmp_path_factory.mktemp("scanned")
    scans = draw_dicom_series(folder / "scans", 18)
    return trained(folder / "run", "--data", scans, *SMALL, "--folds", "2")


@pytest.mark.slow
def test_patients_that_dicom_tags_name_stand_on_one_side_of_every_fold(scanned: Run) -> None:
    assert scanned.done.returncode == 0, scanned.done.stderr
    assert "36 patients are known, of 108 images" in scanned.done.stderr
    told = _predictions(scanned.folder / "folds")
    assert len({(row["patient"], row["round"]) for row in told}) == 36
    assert {row["patient"] for row in told} == {str(number) for number in range(1, 37)}
    places: dict[str, list[int]] = {}
    for row in told:
        places.setdefault(row["series"], []).append(int(row["position"]))
    assert [sorted(found) for found in places.values()] == [[1, 2, 3]] * 36


@pytest.mark.slow
def test_series_are_compared_and_their_decision_goes_into_the_model(scanned: Run) -> None:
    assert scanned.done.returncode == 0, scanned.done.stderr
    metrics = json.loads((scanned.folder / "metrics.json").read_text())
    series = metrics["metrics"]["out_of_fold"]["series"]
    assert series["patients"] == {"with_tumour": 18, "without": 18}
    assert metrics["series"] == series["decision"]
    spec = read_weights(scanned.folder / "model.safetensors").spec
    assert (None if spec.series is None else asdict(spec.series)) == series["decision"]
    assert metrics["metrics"]["validation_series"]["patients"] >= 2
    card = (scanned.folder / "CARD.md").read_text()
    assert "### Series of slices" in card
    assert "### By series" in card


@pytest.mark.slow
def test_no_patient_is_named_in_what_a_training_writes(scanned: Run) -> None:
    assert scanned.done.returncode == 0, scanned.done.stderr
    written = [path for path in scanned.folder.rglob("*") if path.is_file()]
    assert len(written) > 10
    for path in written:
        content = path.read_bytes()
        assert CANARY.encode() not in content
        assert b"1.2.826.0" not in content
    assert CANARY not in scanned.done.stdout + scanned.done.stderr


@pytest.mark.slow
def test_what_is_left_out_is_told_by_name_and_its_twins_are_not_learnt(
    heads: Path, second: Path, tmp_path: Path
) -> None:
    left_out = ("--leave-out", "second", "--leave-out", "no 3")

    done = train("--data", heads, "--data", second, "-o", tmp_path / "run", *SMALL, *left_out)

    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "run" / "metrics.json").read_text())["metrics"]["left_out"]
    assert {name: figures["count"] for name, figures in told["by_name"].items()} == {"second": 21, "no 3": 1}
    assert told["count"] == 22
    assert 0 <= told["pooled"]["roc_auc"] <= 1
    assert " twins of what is left out take no part" in done.stderr


@pytest.mark.slow
def test_external_images_are_judged_without_their_twins(folds: Run) -> None:
    assert folds.done.returncode == 0, folds.done.stderr
    told = json.loads((folds.folder / "metrics.json").read_text())["metrics"]["external"]["outside"]
    assert (told["count"], told["twins_left_out"]) == (10, 1)
    assert told["specificity"]["value"] is None
    assert "## External collections" in (folds.folder / "CARD.md").read_text()


@pytest.mark.slow
def test_going_on_from_weights_keeps_what_their_run_held_out(
    folds: Run, gone_on: Run, heads: Path, tmp_path: Path
) -> None:
    """Another image size or seed would draw another split, and judge on what has been learnt."""
    fresh = train("--data", heads, "-o", tmp_path / "fresh", *SMALL, "--seed", "5")

    codes = (folds.done.returncode, gone_on.done.returncode, fresh.returncode)
    assert codes == (0, 0, 0), gone_on.done.stderr
    held_out = [
        sorted((run / "validation.txt").read_text().split())
        for run in (folds.folder, gone_on.folder, tmp_path / "fresh")
    ]
    assert held_out[0] == held_out[1] != held_out[2]
    command = read_weights(gone_on.folder / "model.safetensors").spec.provenance.command
    assert len(command.splitlines()) == 2


@pytest.mark.slow
def test_going_on_from_weights_keeps_what_folds_showed_of_them(folds: Run, gone_on: Run) -> None:
    assert (folds.done.returncode, gone_on.done.returncode) == (0, 0), gone_on.done.stderr
    before, after = (
        json.loads((run.folder / "metrics.json").read_text())["metrics"]["out_of_fold"]
        for run in (folds, gone_on)
    )
    assert after == before | {"of_first_training": True}
    cards = [(run.folder / "CARD.md").read_text() for run in (folds, gone_on)]
    assert ["the last one changed" in card for card in cards] == [False, True]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--folds", "1"), "--folds 1 cannot be"),
        (("--leave-source-out", "mars"), "begins with mars"),
    ],
)
def test_what_cannot_be_is_one_line(
    heads: Path, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    done = train("--data", heads, "-o", tmp_path / "run", *SMALL, *options)

    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("architecture", ["cnn", "seed-cnn", "lite0_short"])
def test_rounded_weights_are_bfloat16_once_folded_and_change_little(architecture: str) -> None:
    torch.manual_seed(3)
    network = build(architecture, 2)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2.0)
    network.eval()
    pictures = torch.randint(0, 256, (4, 1, 64, 64), dtype=torch.uint8)
    first = next(module for module in network.modules() if isinstance(module, torch.nn.Conv2d))
    norm = next((module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)), None)
    scale = torch.ones(len(first.weight))
    if norm is not None:
        assert norm.running_var is not None
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    wanted = (first.weight * scale.view(-1, 1, 1, 1)).detach().bfloat16()
    with torch.no_grad():
        before = network(pictures)[0]
        round_to_bfloat16(network, 64)
        after = network(pictures)[0]

    assert float((before - after).abs().max()) < 0.05 * float(before.abs().max()) + 0.02
    # What an engine gets when it folds and rounds is exactly what was judged, although the file holds
    # float16; smaller weights than float16 resolves matter to nobody.
    folded = (first.weight * scale.view(-1, 1, 1, 1)).detach()
    resolved = first.weight.detach().abs() > torch.finfo(torch.float16).tiny
    assert resolved.float().mean() > 0.99
    assert torch.equal(folded.bfloat16()[resolved], wanted[resolved])
    np.testing.assert_allclose(folded[resolved].numpy(), wanted[resolved].float().numpy(), rtol=2.0**-11)
    if norm is not None:
        assert norm.running_mean is not None
        taken_off = (norm.running_mean - (0 if first.bias is None else first.bias)) * scale
        bias = (norm.bias - taken_off).detach()
        steps = (norm.bias.abs() + taken_off.abs()).detach() * 2.0**-10  # float16's, of what is added
        assert bool(((bias - bias.bfloat16().float()).abs() <= steps).all())
        assert float((bias - bias.bfloat16().float()).abs().mean()) < 2.0**-11 * float(bias.abs().mean())
