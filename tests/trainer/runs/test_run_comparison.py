"""`bt-train list` and `bt-train compare`: what run folders tell, and paired intervals of differences."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from config.errors import UsageError
from trainer.cli import main
from trainer.runs.run_comparison import compare_runs, comparison_text
from trainer.runs.run_file import write_run_file
from trainer.runs.run_record import find_runs, read_run
from trainer.training.run_folder import made_folder, run_folder

HISTORY = [
    {"epoch": number, "seconds": 2.0, "learning_rate": 0.001, "train_loss": 0.7, "train_accuracy": 0.5,
     "val_loss": loss, "val_accuracy": 0.6 + number / 100, "val_auc": 0.7}
    for number, loss in enumerate((0.6, 0.5, 0.55), start=1)
]  # fmt: skip


def _run(folder: Path, scores: Any = None, *, images: range = range(80), lr: float = 0.002) -> Path:
    """Write the folder of a run; without scores (of the class yes) one that was interrupted."""
    folder.mkdir(parents=True)
    write_run_file(folder / "run.toml", {"data": ["/data/heads"], "arch": "cnn", "epochs": 3, "lr": lr})
    stored = {"setting": {}, "history": HISTORY}
    tensors = {"network.x": np.zeros(3, np.float32)}
    save_file(tensors, folder / "checkpoint.safetensors", {"bt_daemon.training.2": json.dumps(stored)})
    if scores is None:
        return folder
    with (folder / "predictions.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "sha256", "label", "said", "group", "p_no", "p_yes"])
        for image, score in zip(images, scores, strict=True):
            label, said = ("yes" if image % 2 else "no"), ("yes" if score >= 0.5 else "no")
            writer.writerow([f"{image}.png", f"{image:064x}", label, said, image // 2, 1 - score, score])
    metrics = {
        "decision": {"positive": "yes", "threshold": 0.5},
        "metrics": {"validation": {"accuracy": {"value": 0.9}, "roc_auc": {"value": 0.95}}},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def _scores(wrong: int, count: int = 80) -> Any:
    """Return scores that are right but for the last images, half of them of each class."""
    truth = np.arange(count) % 2
    return np.where(np.arange(count) >= count - wrong, 1 - truth, truth) * 0.8 + 0.1


def test_list_tells_finished_interrupted_and_running_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = _run(tmp_path / "runs" / "first", _scores(4))
    second = _run(tmp_path / "runs" / "second")
    third = _run(tmp_path / "runs" / "third")
    (tmp_path / "runs" / "no run").mkdir()
    for number, folder in enumerate((first, second, third)):
        for path in folder.iterdir():
            os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))

    with made_folder(third):
        code = main(["list", str(tmp_path / "runs")])

    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert [line.split()[3] for line in lines[1:]] == ["finished", "interrupted", "running"]
    assert [line.split()[0] for line in lines[1:]] == [str(path) for path in (first, second, third)]
    assert lines[1].split()[4:] == ["heads", "cnn", "3/3", "0.5000", "0.900", "0.950", "-"]
    assert lines[2].split()[4:] == ["heads", "cnn", "3/3", "0.5000", "0.620", "0.700", "-"]


def test_list_is_json_for_programs_and_one_line_where_there_is_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _run(tmp_path / "first")

    assert main(["list", str(tmp_path), "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["state"], told["best_epoch"], told["epochs_done"]) == ("interrupted", 2, 3)
    assert main(["list", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_damaged_run_is_one_line(tmp_path: Path) -> None:
    folder = _run(tmp_path / "first")
    (folder / "checkpoint.safetensors").write_bytes(b"\xff" * 40)

    with pytest.raises(UsageError, match=r"cannot be read: checkpoint\.safetensors is no safetensors file"):
        read_run(folder)


def test_equal_runs_differ_by_nothing(tmp_path: Path) -> None:
    runs = [read_run(_run(tmp_path / name, _scores(10))) for name in ("a", "b")]

    (difference,) = compare_runs(runs)["figures"]["validation"]["differences"].values()

    assert difference.pop("images") == 80
    assert all(figure == {"value": 0.0, "low": 0.0, "high": 0.0} for figure in difference.values())


def test_paired_intervals_are_narrower_than_those_of_each_run(tmp_path: Path) -> None:
    """Both are wrong of the same eight images, and one of sixteen more: only these tell them apart."""
    runs = [read_run(_run(tmp_path / name, _scores(wrong))) for name, wrong in (("a", 24), ("b", 8))]

    table = compare_runs(runs)["figures"]["validation"]

    own, difference = table["runs"][str(tmp_path / "b")], table["differences"][str(tmp_path / "b")]
    assert own["accuracy"]["value"] == pytest.approx(0.9)
    assert difference["accuracy"]["value"] == pytest.approx(0.2)
    # 8 of 40 groups: a binomial share of 0.2, resampled; both ends are known from its quantiles.
    assert 0.05 < difference["accuracy"]["low"] <= 0.1
    assert 0.3 <= difference["accuracy"]["high"] < 0.4
    assert "+0.200" in comparison_text(compare_runs(runs))
    assert "*" in comparison_text(compare_runs(runs))


def test_runs_that_judged_other_images_are_compared_on_those_in_common_or_not_at_all(
    tmp_path: Path,
) -> None:
    first = read_run(_run(tmp_path / "a", _scores(8)))
    overlapping = read_run(_run(tmp_path / "b", _scores(8, 60), images=range(50, 110)))
    foreign = read_run(_run(tmp_path / "c", _scores(8), images=range(75, 155)))

    table = compare_runs([first, overlapping, foreign])["figures"]["validation"]

    assert table["differences"][str(tmp_path / "b")]["images"] == 30
    assert str(tmp_path / "c") not in table["differences"]
    assert (
        "judged on 80 and 60 images, 30 of them the same: the difference is on these alone"
        in (table["notes"][0])
    )
    assert "5 of them the same: too few for a difference" in table["notes"][1]


def test_compare_shows_options_that_differ_and_draws_all_curves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _run(tmp_path / "a", _scores(8))
    _run(tmp_path / "b", lr=0.01)

    code = main(["compare", str(tmp_path / "a"), str(tmp_path / "b")])

    told = capsys.readouterr()
    assert code == 0
    assert [line.split() for line in told.out.splitlines() if line.startswith("lr")] == [
        ["lr", "0.002", "0.01"]
    ]
    assert f"{tmp_path / 'b'}: not finished" in told.out
    assert str(tmp_path / "compare.png") in told.err
    with Image.open(tmp_path / "compare.png") as picture:
        assert picture.width > 1000
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "nowhere")]) == 2
    assert "there is no run in" in capsys.readouterr().err


def test_a_name_makes_the_first_folder_that_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = []
    for _ in range(3):
        folders.append(run_folder(None, "first", resume=False, overwrite=False))
        _run(folders[-1])
    _run(tmp_path / "runs" / "firstly")

    assert [str(folder) for folder in folders] == ["runs/first", "runs/first-2", "runs/first-3"]
    assert run_folder(None, "first", resume=True, overwrite=False) == Path("runs/first-3")
    assert {run.folder.name for run in find_runs(Path("runs"))} == {"first", "first-2", "first-3", "firstly"}
    with pytest.raises(UsageError, match="there is no run of the name other to resume"):
        run_folder(None, "other", resume=True, overwrite=False)
    for name in ("a/b", "..", ""):
        with pytest.raises(UsageError, match="is no name of a folder"):
            run_folder(None, name, resume=False, overwrite=False)


def test_two_trainings_do_not_write_into_one_folder(tmp_path: Path) -> None:
    with (
        made_folder(tmp_path / "run"),
        pytest.raises(UsageError, match="another training writes into"),
        made_folder(tmp_path / "run"),
    ):
        pass
    with made_folder(tmp_path / "run"):
        pass  # it is free again
