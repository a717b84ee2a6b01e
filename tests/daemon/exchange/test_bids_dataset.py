"""A BIDS dataset of series: valid, described, and without a name that nobody asked for."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.cli import main
from storage.pseudonyms import pseudonym
from storage.records import ModelRecord, Outcome, SeriesKeys
from tests.support.dicom_series import PATIENT_ID, ROOT, write_series
from tests.support.series import (
    OTHER_SERIES_MODEL,
    SERIES_MODEL,
    open_series_store,
    slice_of,
)
from trainer.images.phantom import phantom

VALIDATOR = shutil.which("bids-validator-deno")


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two DICOM series of one patient and a volume, judged into x.db."""
    nibabel = pytest.importorskip("nibabel")
    folder = tmp_path_factory.mktemp("judged")
    for number, slices in ((1, 3), (2, 2)):
        write_series(folder / "in" / f"series {number}", number, slices)
    volume = np.stack([np.asarray(phantom(index, lesion=False).convert("L")) for index in range(4)], axis=-1)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / "in" / "head 1.nii.gz")
    _watch(folder)
    return folder


def _watch(folder: Path, *options: str) -> None:
    words = ["watch", str(folder / "in"), "--once", "--settle", "0s", "-q"]
    assert main([*words, "--db", str(folder / "x.db"), *options]) == 0


def _export(database: Path, folder: Path, *options: str) -> int:
    return int(main(["report", "--db", str(database), "--bids", str(folder), *options]))


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


def _described(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.with_suffix(".json").read_text("utf-8"))
    return found


def _errors(folder: Path) -> list[str]:
    """Return what the reference implementation of the BIDS validator has to complain about."""
    if VALIDATOR is None:
        pytest.skip("needs bids-validator-deno")
    done = subprocess.run(
        [VALIDATOR, "--format", "json", str(folder)], capture_output=True, text=True, check=False
    )
    issues = json.loads(done.stdout)["issues"]["issues"]
    return [issue["code"] for issue in issues if issue["severity"] == "error"]


@pytest.mark.slow
def test_dataset_is_valid_and_has_a_row_for_each_series_and_participant(judged: Path, tmp_path: Path) -> None:
    assert _export(judged / "x.db", tmp_path / "bids") == 0

    series = _table(tmp_path / "bids" / "series.tsv")
    (model,) = (tmp_path / "bids" / "phenotype").glob("*.tsv")
    participants = _table(model)
    assert sorted(int(row["slices"]) + int(row["rejected_slices"]) for row in series) == [2, 3, 4]
    assert len({row["participant_id"] for row in series}) == 2
    assert [row["participant_id"] for row in participants] == sorted(
        {row["participant_id"] for row in series}
    )
    assert {row["participant_id"]: row["series"] for row in participants}.get("sub-head1") == "1"
    assert {row["session_id"] for row in series if row["participant_id"] == "sub-head1"} == {"n/a"}
    assert _errors(tmp_path / "bids") == []


@pytest.mark.slow
def test_sidecar_describes_every_column_and_every_word_in_it(judged: Path, tmp_path: Path) -> None:
    assert _export(judged / "x.db", tmp_path / "bids") == 0

    for path in (tmp_path / "bids").rglob("*.tsv"):
        told, rows = _described(path), _table(path)
        for name in rows[0]:
            assert told[name]["LongName"]
            assert told[name]["Description"].endswith(".")
            if levels := told[name].get("Levels"):
                assert {row[name] for row in rows} - {"n/a"} <= levels.keys()
    about = json.loads((tmp_path / "bids" / "dataset_description.json").read_text())
    program, model = about["GeneratedBy"]
    assert about["DatasetType"] == "derivative"
    assert program["Name"] == "bt-daemon"
    assert _table(tmp_path / "bids" / "series.tsv")[0]["weights_sha256"] in model["Description"]
    assert "Not a medical device" in (tmp_path / "bids" / "README.md").read_text()


@pytest.mark.slow
def test_dataset_names_no_patient_in_the_clear(judged: Path, tmp_path: Path) -> None:
    assert _export(judged / "x.db", tmp_path / "bids") == 0

    for path in (tmp_path / "bids").rglob("*"):
        text = path.name if path.is_dir() else f"{path.name} {path.read_text('utf-8')}"
        assert not any(word in text for word in (PATIENT_ID, "CANARY", "ller", ROOT, "IM0", "series 1"))


@pytest.mark.slow
def test_series_of_a_bids_dataset_keep_their_labels(tmp_path: Path) -> None:
    for name in ("sub-01_ses-02_T1w", "sub-01_ses-03_FLAIR", "sub-Pre7_T1w"):
        folder = tmp_path / "in" / name.split("_")[0] / "anat"
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(2):
            phantom(index, lesion=False).save(folder / f"{name}_{index:03d}.png")
    _watch(tmp_path, "--series", "bids")

    assert _export(tmp_path / "x.db", tmp_path / "in" / "derivatives") == 0

    rows = _table(tmp_path / "in" / "derivatives" / "series.tsv")
    assert [(row["participant_id"], row["session_id"], row["series_id"]) for row in rows] == [
        ("sub-01", "ses-02", "sub-01_ses-02_T1w"),
        ("sub-01", "ses-03", "sub-01_ses-03_FLAIR"),
        ("sub-Pre7", "n/a", "sub-Pre7_T1w"),
    ]


def test_filters_choose_what_is_written(tmp_path: Path) -> None:
    database = _stored(tmp_path)

    assert _export(database, tmp_path / "bids", "--class", "TUMOUR", "--model", "cd") == 0

    rows = _table(tmp_path / "bids" / "series.tsv")
    assert rows
    assert {row["class"] for row in rows} == {"tumour"}
    assert {row["model_version"] for row in rows} == {"2"}


def test_two_models_have_a_table_of_participants_each_and_a_stale_one_goes(tmp_path: Path) -> None:
    database, folder = _stored(tmp_path), tmp_path / "bids"
    assert _export(database, folder) == 0
    both = sorted(path.name for path in (folder / "phenotype").iterdir())
    (folder / "phenotype" / "age.tsv").write_text("participant_id\tage\n")

    assert _export(database, folder, "--model", "cdcd", "--overwrite") == 0

    left = {path.name for path in (folder / "phenotype").iterdir()}
    assert len(both) == 4
    assert left == {name for name in both if "cdcdcdcd" in name} | {"age.tsv"}


def test_one_model_on_two_engines_is_one_answer_the_last(tmp_path: Path) -> None:
    database = _stored(tmp_path, replace(SERIES_MODEL, engine="torch"))

    assert _export(database, tmp_path / "bids") == 0

    rows = _table(tmp_path / "bids" / "series.tsv")
    (model,) = (tmp_path / "bids" / "phenotype").glob("*.tsv")
    participants = [row["participant_id"] for row in _table(model)]
    assert len(rows) == 3
    assert len(participants) == len(set(participants)) == 2
    assert max(float(row["score"]) for row in rows) == pytest.approx(0.9, abs=0.01)


def test_nothing_that_is_there_is_written_over_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database, folder = _stored(tmp_path), tmp_path / "bids"
    folder.mkdir()
    (folder / "dataset_description.json").write_text('{"Name": "of somebody else"}')

    codes = [_export(database, folder), _export(database, folder, "--overwrite")]

    assert codes == [2, 2]
    assert [path.name for path in folder.iterdir()] == ["dataset_description.json"]
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("is not empty; name a new folder, or write over an earlier export with --overwrite")
    assert "holds something else than an earlier export" in second


def test_without_a_series_there_is_one_line_and_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = _stored(tmp_path)

    code = _export(database, tmp_path / "bids", "--since", "2030-01")

    assert code == 1
    assert not (tmp_path / "bids").exists()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bt-daemon: no dataset was written: no series match")


def _keys(number: int) -> SeriesKeys:
    """Return what series 0, 1 (of one patient) and 2 are called by, hashes as in earnest."""
    series = pseudonym(b"secret", "series", str(number))
    patient = pseudonym(b"secret", "patient", str(number // 2))
    return SeriesKeys(series, None, patient)


def _stored(folder: Path, second: ModelRecord = OTHER_SERIES_MODEL) -> Path:
    """Return a database of three series by two models, two of them of one patient."""
    store = open_series_store(folder / "x.db")
    entries = store.add(*(b"%d.dcm" % number for number in range(3)))
    for number, entry in enumerate(entries):
        store.judge([entry], slice_of(_keys(number), 0.3 * number + 0.2))
    with store.ledger.transaction():
        other = store.ledger.model_id(second)
    store.ledger.reclassify(other)
    store.clock.advance(1)
    for number, entry in enumerate(store.ledger.due(3, store.clock())):
        judged = slice_of(_keys(number), 0.9 - 0.3 * number)
        store.ledger.record([Outcome(entry.file_id, judged, None, 1_500)], other)
    store.close()
    return folder / "x.db"
