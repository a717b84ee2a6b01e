"""The whole circle of review: judge, correct by CSV, export, train, judge again, and better."""

from __future__ import annotations

import csv
import json
from contextlib import closing
from pathlib import Path

import pytest

from daemon.cli import main
from storage.database import open_reader
from storage.queries.results import rows
from tests.support.models import SMALL, untrained_model
from tests.support.training import draw_heads, train

TRAINING = ("--image-size", "32", "--batch", "8", "--arch", "seed-cnn", "--patience", "0", "--samples", "64")
QUICKLY = ("--epochs", "1")
EACH = 36  # heads of a class; calibration wants twenty


def _daemon(database: Path, *words: str | Path) -> None:
    assert main(["--db", str(database), *map(str, words)]) == 0


def _judge(database: Path, heads: Path, weights: Path) -> float:
    """Judge a folder of class folders as the daemon does; return how much of it is right."""
    _daemon(database, "watch", heads, "--once", "--settle", "0s", "-q", "--weights", weights)
    with closing(open_reader(database)) as connection:
        found = list(rows(connection))
    assert len(found) == 2 * EACH
    return sum(row.label == row.path.split(b"/")[0].decode() for row in found) / len(found)


def _fill_in(export: Path) -> None:
    """Answer what a person sees in the pictures: here their folder tells it."""
    with export.open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    for line in lines:
        line["answer"] = Path(line["file"]).parent.name
    lines[0]["answer"], lines[1]["answer"] = "skip", "other-kind"
    with export.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, lines[0])
        writer.writeheader()
        writer.writerows(lines)


@pytest.mark.slow
def test_what_people_corrected_makes_a_better_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = untrained_model(tmp_path / "first.safetensors", SMALL)
    heads = draw_heads(tmp_path / "heads", EACH)
    others = draw_heads(tmp_path / "others", EACH, first=500)
    before = _judge(tmp_path / "before.db", others, first)
    _judge(tmp_path / "x.db", heads, first)
    export, dataset = tmp_path / "waits.csv", tmp_path / "reviewed"

    _daemon(tmp_path / "x.db", "review", "--export", export, "-n", "1000", "--queue", "random")
    _fill_in(export)
    _daemon(tmp_path / "x.db", "review", "--import", export, "--reviewer", "ada")
    _daemon(tmp_path / "x.db", "review", "--export-dataset", dataset)
    told = capsys.readouterr().out.splitlines()[-3:]
    groups = ("--groups", dataset / "groups.csv", "--exclude-list", dataset / "exclude.csv")
    done = train("--data", dataset, *groups, "-o", tmp_path / "run", *TRAINING, "--epochs", "4")
    better = tmp_path / "run" / "model.safetensors"
    evaluated = train("eval", "--weights", better, "--data", dataset, *groups, "--json")
    fitted = train(
        "calibrate", "--weights", better, "--data", dataset, *groups, "-o", tmp_path / "own.safetensors"
    )
    second = ("-o", tmp_path / "second", *TRAINING, *QUICKLY)
    external = train("--data", others, "--external", dataset, *groups[2:], *second)

    assert [line.split(" --")[0] for line in told] == ["bt-train", "bt-train eval", "bt-train calibrate"]
    for one in (done, evaluated, fitted, external):
        assert one.returncode == 0, one.stderr
    assert json.loads(evaluated.stdout)["all"]["count"] == 2 * EACH - 2
    assert _judge(tmp_path / "after.db", others, better) > before + 0.2
