"""`bt-train eval` gives images and, where patients are known, series; of patients only how many."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.dicom_folders import CANARY, draw_dicom_series
from tests.support.training import train

pytestmark = pytest.mark.slow  # to import torch takes seconds already


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_dicom_series(tmp_path_factory.mktemp("dicom") / "scans", 3)


def test_series_that_dicom_tags_tell_are_judged_beside_their_images(heads: Path) -> None:
    done = train("eval", "--data", heads, "--json")

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["all"]["count"] == 18
    assert report["all"]["groups"] <= 6  # a patient's images stand or fall together
    series = report["series"]
    assert (series["count"], series["patients"], series["groups"]) == (6, 6, 6)
    assert sum(map(sum, series["confusion"])) == 6
    assert series["roc_auc"]["low"] <= series["roc_auc"]["value"] <= series["roc_auc"]["high"]
    assert CANARY not in done.stdout + done.stderr
    assert "1.2.826.0" not in done.stdout + done.stderr


def test_the_table_has_a_line_of_series(heads: Path) -> None:
    done = train("eval", "--data", heads)

    assert done.returncode == 0, done.stderr
    head, line = done.stdout.splitlines()[-2:]
    assert head.split()[:4] == ["of", "6", "patients", "series"]
    assert line.split()[:2] == ["all", "6"]


def test_a_groups_file_joins_what_it_calls_one_series(heads: Path, tmp_path: Path) -> None:
    groups = tmp_path / "groups.csv"
    lines = [
        f"scans/{path.parent.name}/{path.name},{path.parent.name},{path.parent.name}"
        for path in heads.rglob("*.dcm")
    ]
    groups.write_text("\n".join(["file,patient,series", *lines]))

    done = train("eval", "--data", heads, "--groups", groups, "--json")

    assert done.returncode == 0, done.stderr
    series = json.loads(done.stdout)["series"]
    assert (series["count"], series["patients"]) == (2, 2)
