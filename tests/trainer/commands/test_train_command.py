"""`bt-train` as people type it: what it writes, what it says, and how it ends."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
from pathlib import Path

import pytest
from PIL import Image

from config.extras import installed
from daemon.engines.build_openvino import make_engine
from daemon.service.drift import reference_bins
from tests.support.label_maps import drawn_labels, write_label_map
from tests.support.training import Run, Training, draw_heads, train, trained
from trainer.evaluation.ood import OTHERS
from trainer.model.weights import read_weights
from trainer.training.run_folder import run_folder

pytestmark = pytest.mark.slow  # to import torch takes seconds already

# What makes a training take seconds.
SMALL = ("--image-size", "32", "--epochs", "2", "--batch", "8", "--samples", "24", "--arch", "seed-cnn")


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_heads(tmp_path_factory.mktemp("data") / "heads", 14)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training of eight epochs; one of its files is no image."""
    folder = tmp_path_factory.mktemp("whole")
    data = draw_heads(folder / "data", 14)
    (data / "no" / "broken.jpg").write_bytes(b"this is text")
    options = (*SMALL, "--epochs", "8", "--patience", "0", "--deterministic")
    return trained(folder / "run", "--data", data, *options, "--meaning", "yes=tumour", "--json")


@pytest.fixture(scope="module")
def overwritten(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training with three classes, into a folder that held another run.

    It draws as many pictures of other kinds as the command does when people type it.
    """
    folder = tmp_path_factory.mktemp("overwritten")
    data = draw_heads(folder / "data", 14, ("first", "second"))
    (data / "third").mkdir()
    for number in range(14):
        Image.effect_noise((64, 64), 20 + 5 * number).save(data / "third" / f"{number}.png")
    (folder / "run").mkdir()
    for name in ("model.safetensors", "checkpoint.safetensors"):
        (folder / "run" / name).write_text("old")
    return trained(folder / "run", "--data", data, *SMALL, "--groups", "none", "--overwrite", others=OTHERS)


def test_training_writes_weights_metrics_history_pictures_and_card(whole: Run) -> None:
    assert whole.done.returncode == 0, whole.done.stderr
    written = {path.name for path in whole.folder.iterdir()}
    assert written == {
        "CARD.md", "checkpoint.safetensors", "confusion.png", "curves.png", "history.csv",
        "metrics.json", "model.safetensors", "predictions.csv", "run.toml", "scores.png", "validation.txt",
        "worst.png",
    } | ({"tensorboard"} if installed("tensorboard") else set())  # fmt: skip
    spec = read_weights(whole.folder / "model.safetensors").spec
    assert spec.classes == ("no", "yes")
    assert spec.decision.positive == "yes"
    assert spec.meanings == {"yes": "tumour"}
    assert spec.out_of_distribution is not None
    report = json.loads(whole.done.stdout)
    assert report == json.loads((whole.folder / "metrics.json").read_text())
    assert report["metrics"]["split"] == "by group"
    with (whole.folder / "history.csv").open() as stream:
        assert [row["epoch"] for row in csv.DictReader(stream)] == [str(epoch) for epoch in range(1, 9)]


def test_a_daemon_takes_what_was_trained_for_what_it_is(whole: Run, tmp_path: Path) -> None:
    prepared = make_engine(whole.folder / "model.safetensors", tmp_path / "engine", "fp32")

    assert "computes what its training computed of 64 probe pictures" in prepared.why


def test_an_unreadable_image_is_named_and_left_out(whole: Run) -> None:
    assert whole.done.returncode == 0, whole.done.stderr
    assert "left out" in whole.done.stderr
    assert "broken.jpg" in whole.done.stderr
    assert "Traceback" not in whole.done.stderr


def test_label_maps_give_the_limit_a_direction_of_their_own(heads: Path, tmp_path: Path) -> None:
    write_label_map(tmp_path / "labels" / "head.nii.gz", drawn_labels())
    options = ("--data", heads, *SMALL, "--epochs", "1", "--synthetic-heads", tmp_path / "labels")

    done = train(*options, "-o", tmp_path / "run", others=20)

    assert done.returncode == 0, done.stderr
    whitening = read_weights(tmp_path / "run" / "model.safetensors").tensors["ood.whitening"]
    directions = 2  # drawn pictures of other kinds, tomograms
    assert whitening.shape[1] == min(64, whitening.shape[0]) + directions


def test_the_weights_file_says_what_the_daemon_knows_drift_by(whole: Run) -> None:
    spec = read_weights(whole.folder / "model.safetensors").spec

    validation = spec.provenance.metrics["validation"]
    assert len(validation["distance_quantiles"]) == len(validation["score_quantiles"]) == 20
    assert validation["distance_quantiles"] == sorted(validation["distance_quantiles"])
    assert 0 <= validation["rejected"] <= 1
    assert all(reference_bins(spec).values())


def test_a_folder_without_label_maps_is_one_line_and_exit_2(heads: Path, tmp_path: Path) -> None:
    done = train("--data", heads, *SMALL, "--synthetic-heads", heads, "-o", tmp_path / "run")

    assert done.returncode == 2
    assert "no label maps in" in done.stderr
    assert not (tmp_path / "run").exists()


def test_any_number_of_classes_can_be_trained(overwritten: Run) -> None:
    assert overwritten.done.returncode == 0, overwritten.done.stderr
    spec = read_weights(overwritten.folder / "model.safetensors").spec
    assert spec.classes == ("first", "second", "third")
    assert spec.decision.positive is None


def test_a_missing_folder_is_one_line_and_exit_2(tmp_path: Path) -> None:
    done = train("--data", tmp_path / "nowhere")

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "no folder at" in done.stderr


def test_an_empty_folder_is_one_line_and_exit_2(tmp_path: Path) -> None:
    done = train("--data", tmp_path)

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "holds no class folders" in done.stderr


def test_empty_class_folders_are_one_line_and_exit_2(tmp_path: Path) -> None:
    (tmp_path / "no").mkdir()
    (tmp_path / "yes").mkdir()

    done = train("--data", tmp_path)

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "empty" in done.stderr


def test_a_single_class_is_one_line_and_exit_2(tmp_path: Path) -> None:
    (tmp_path / "no").mkdir()
    Image.new("L", (64, 64)).save(tmp_path / "no" / "a.png")

    done = train("--data", tmp_path)

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "only one class, 'no'" in done.stderr


def test_too_few_images_are_one_line_and_exit_2(tmp_path: Path) -> None:
    root = draw_heads(tmp_path / "data", 1)

    done = train("--data", root, "-o", tmp_path / "run", *SMALL)

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "too few images of" in done.stderr


def test_nothing_to_train_on_is_a_usage_error() -> None:
    done = train()

    assert done.returncode == 2
    assert "give --data DIR" in done.stderr


def test_a_device_that_is_absent_exits_5(heads: Path, tmp_path: Path) -> None:
    done = train("--data", heads, "-o", tmp_path, "--device", "cuda:99")

    assert done.returncode == 5
    assert "no cuda:99 here" in done.stderr


def test_an_unknown_architecture_exits_2(heads: Path, tmp_path: Path) -> None:
    done = train("--data", heads, "-o", tmp_path / "run", *SMALL[:-1], "vgg")

    assert done.returncode == 2
    assert "bt-train models" in done.stderr


def test_resume_without_any_run_exits_2(heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.cli import main

    monkeypatch.chdir(tmp_path)

    assert main(["--data", str(heads), "--resume"]) == 2


def test_interrupt_exits_130_and_says_how_to_go_on(heads: Path, tmp_path: Path) -> None:
    training = Training("--data", heads, "-o", tmp_path / "run", *SMALL, "--epochs", "500")
    for line in training.errors:
        if line.startswith("epoch 2/"):
            break
    code, errors = training.stop(signal.SIGINT)

    assert code == 130
    assert "--resume" in errors
    assert "Traceback" not in errors


def test_a_killed_training_resumes_to_the_weights_of_an_uninterrupted_one(whole: Run, tmp_path: Path) -> None:
    """Killed with SIGKILL in the middle of an epoch, three times over."""
    for kill_after, resume in (("epoch 2/", ()), ("epoch 4/", ("--resume",)), ("epoch 5/", ("--resume",))):
        training = Training(*whole.options, "-o", tmp_path / "cut", *resume)
        for line in training.errors:
            if line.startswith(kill_after):
                break
        code, _ = training.stop(signal.SIGKILL)
        assert code == -signal.SIGKILL
    resumed = train(*whole.options, "-o", tmp_path / "cut", "--resume")

    assert whole.done.returncode == resumed.returncode == 0, whole.done.stderr + resumed.stderr
    assert "epoch 5/" not in resumed.stderr
    one = read_weights(whole.folder / "model.safetensors").tensors
    other = read_weights(tmp_path / "cut" / "model.safetensors").tensors
    assert one.keys() == other.keys()
    assert all((one[name] == other[name]).all() for name in one)


def test_resume_refuses_other_options(whole: Run, tmp_path: Path) -> None:
    options = (*whole.options, "-o", shutil.copytree(whole.folder, tmp_path / "run"))

    second = train(*options, "--resume", "--seed", "9")
    third = train(*options, "--resume", "--arch", "cnn")

    assert whole.done.returncode == 0, whole.done.stderr
    assert second.returncode == third.returncode == 2
    assert "another seed" in second.stderr
    assert "another arch ('seed-cnn', now 'cnn')" in third.stderr


@pytest.mark.defects(33)
@pytest.mark.parametrize("name", ["model.safetensors", "metrics.json", "checkpoint.safetensors"])
def test_a_run_is_not_overwritten_unasked(heads: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("months of work")

    done = train("--data", heads, "-o", tmp_path, *SMALL)

    assert done.returncode == 2
    assert done.stderr == (
        f"bt-train: {tmp_path} holds a run already; "
        "give another -o DIR, --resume to go on with it, or --overwrite to lose it\n"
    )
    assert (tmp_path / name).read_text() == "months of work"


@pytest.mark.defects(33)
def test_a_run_is_overwritten_when_asked_and_goes_on_from_nothing_of_it(overwritten: Run) -> None:
    assert overwritten.done.returncode == 0, overwritten.done.stderr
    made = read_weights(overwritten.folder / "model.safetensors")
    assert "--overwrite" not in made.spec.provenance.command


@pytest.mark.defects(33)
def test_resuming_a_run_that_is_not_there_exits_2(heads: Path, tmp_path: Path) -> None:
    done = train("--data", heads, "-o", tmp_path / "none", *SMALL, "--resume")

    assert done.returncode == 2
    assert f"there is no run to resume in {tmp_path / 'none'}" in done.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.defects(33)
def test_two_runs_of_one_second_have_two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = []
    for _ in range(3):
        folders.append(run_folder(None, resume=False, overwrite=False))
        folders[-1].mkdir(parents=True)

    assert len(set(folders)) == 3


@pytest.mark.defects(33)
def test_an_interrupt_before_anything_is_saved_does_not_advise_to_resume(heads: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    training = Training("--data", heads, "-o", run, *SMALL, "--samples", "200000")
    next(line for line in training.errors if "images in" in line)

    code, errors = training.stop(signal.SIGINT)

    assert code == 130
    assert "nothing of this run is saved" in errors
    assert "--resume" not in errors
    assert "Traceback" not in errors


@pytest.mark.defects(35)
@pytest.mark.parametrize("folder", ["/proc/x", "/dev/null/x"])
def test_a_folder_that_cannot_be_made_is_one_line_before_anything_is_read(heads: Path, folder: str) -> None:
    done = train("--data", heads, "-o", folder, *SMALL)

    assert done.returncode == 2
    assert done.stderr.startswith(f"bt-train: cannot make the folder {folder} (")
    assert done.stderr.count("\n") == 1


@pytest.mark.defects(35)
def test_a_run_that_fails_at_once_leaves_no_folder(tmp_path: Path) -> None:
    done = train("--data", tmp_path / "nowhere", "-o", tmp_path / "runs" / "first")

    assert done.returncode == 2
    assert not (tmp_path / "runs").exists()


@pytest.mark.defects(35)
@pytest.mark.parametrize("output", ["/proc/x.safetensors", "nope/x.safetensors"])
def test_calibrate_makes_no_folder_for_its_file(heads: Path, tmp_path: Path, output: str) -> None:
    done = train("calibrate", "--data", heads, "-o", tmp_path / output)

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "nope").exists()


@pytest.mark.defects(34)
@pytest.mark.parametrize("command", [(), ("audit",), ("models",), ("eval",), ("calibrate",)])
def test_help_shows_its_examples_line_by_line(command: tuple[str, ...]) -> None:
    done = train(*command, "--help")

    assert done.returncode == 0
    assert "\\b" not in done.stdout
    assert [line for line in done.stdout.splitlines() if line.startswith("    bt-train")]


@pytest.mark.defects(34)
def test_the_version_is_told() -> None:
    done = train("--version")

    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"bt-train \S.*\n", done.stdout)


def test_models_lists_every_architecture(capsys: pytest.CaptureFixture[str]) -> None:
    from trainer.cli import main
    from trainer.networks.registry import ARCHITECTURES

    code = main(["models", "--no-measure", "--image-size", "64"])

    assert code == 0
    listed = {line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]}
    assert listed == set(ARCHITECTURES)
