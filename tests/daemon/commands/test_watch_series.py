"""Series through the whole daemon: one answer each in any container, and no identifier in the clear."""

from __future__ import annotations

import random
import re
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.database import open_reader
from tests.harness.kill_series import kill_and_compare
from tests.support.daemons import bt_daemon
from tests.support.series import verdicts, verdicts_of_rows
from tests.trainer.images.formats.test_dicom import dicom, saved
from trainer.images.phantom import phantom

pytestmark = pytest.mark.slow

# What would give a patient away: a number, a name, and the numbers of study and series.
CANARIES = ("CANARY0815", "CANARY^NAME", "1.2.840.99.4711.1", "1.2.840.99.4711.2")
SLICES = 7


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "results.db"


def write_series(inbox: Path) -> None:
    """Write a series as objects of its slices, in no order; the last is another study of the same patient."""
    for number in random.Random(3).sample(range(SLICES), SLICES):
        picture = phantom(number, lesion=2 <= number <= 4, size=96, label=False).convert("L")
        dataset = dicom(np.asarray(picture), InstanceNumber=str(number), PatientName=CANARIES[1])
        dataset.PatientID, dataset.StudyInstanceUID = CANARIES[0], CANARIES[2]
        dataset.SeriesInstanceUID = CANARIES[3]
        dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 5 * number]
        if number == SLICES - 1:
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3.4", "1.2.3.4.5"
        (inbox / f"{number}.dcm").write_bytes(saved(dataset))


def series(database: Path) -> list[dict[str, Any]]:
    """Return the series with their verdicts, in the order in which they came."""
    with closing(open_reader(str(database))) as connection:
        query = "SELECT * FROM series JOIN series_verdict ON series_id = id ORDER BY id"
        found = [dict(row) for row in connection.exec_driver_sql(query).mappings()]
        connection.rollback()
        assert verdicts(connection) == verdicts_of_rows(connection)
    return found


def judged(inbox: Path, database: Path, *options: str) -> str:
    """Judge what is in the inbox, and return what the log said."""
    done = bt_daemon("watch", inbox, "--once", "--db", database, *options)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_series_as_files_and_as_one_volume_have_one_answer(shared: Path, inbox: Path, database: Path) -> None:
    for place in sorted((shared / "data" / "dicom" / "brainix-flair").glob("*.dcm")):
        shutil.copy(place, inbox)
    shutil.copytree(shared / "data" / "dicom" / "brainix-t1", inbox / "t1")
    shutil.copy(shared / "data" / "nifti" / "brainix-flair.nii.gz", inbox)

    judged(inbox, database)

    found = series(database)
    assert sorted((one["slices"] + one["rejected"], one["files"]) for one in found) == [
        (5, 5),
        (22, 1),
        (22, 22),
    ]
    [volume] = [one for one in found if one["files"] == 1]
    [files] = [one for one in found if one["files"] == 22]
    assert volume["score"] == pytest.approx(files["score"], abs=0.01)
    assert volume["label_id"] == files["label_id"]
    studies = {one["study_key"] for one in found if one["study_key"]}
    assert len(studies) == 1


def test_objects_of_a_series_are_one_answer_without_an_identifier(
    inbox: Path, database: Path, tmp_path: Path
) -> None:
    write_series(inbox)

    log = judged(inbox, database, "-v")

    found = series(database)
    assert sorted(one["files"] for one in found) == [1, SLICES - 1]
    assert len({one["study_key"] for one in found}) == 2
    assert len({one["patient_key"] for one in found}) == 1
    exported = bt_daemon("results", "--format", "json", "--columns", "all", "--db", database).stdout
    everything = b"".join(place.read_bytes() for place in tmp_path.glob("results.db*") if place.is_file())
    everything += log.encode()
    for word in CANARIES:
        assert word.encode() not in everything
        assert word not in exported


def test_slices_know_their_place_in_the_series(inbox: Path, database: Path) -> None:
    write_series(inbox)
    judged(inbox, database)

    with closing(open_reader(str(database))) as connection:
        query = "SELECT file.name, position FROM result JOIN file ON file.id = file_id ORDER BY position"
        places = connection.exec_driver_sql(query).all()
        connection.rollback()

    assert [tuple(row) for row in places] == [(b"%d.dcm" % n, 5.0 * n) for n in range(SLICES)]


def test_pseudonyms_differ_between_installations(inbox: Path, tmp_path: Path) -> None:
    write_series(inbox)
    for name in ("one.db", "two.db"):
        judged(inbox, tmp_path / name)

    one, two = (series(tmp_path / name) for name in ("one.db", "two.db"))

    assert not {row["patient_key"] for row in one} & {row["patient_key"] for row in two}
    assert not {row["series_key"] for row in one} & {row["series_key"] for row in two}


def test_tags_that_are_asked_for_are_in_the_clear(inbox: Path, database: Path) -> None:
    write_series(inbox)

    judged(inbox, database, "--tags", "PatientID,SeriesInstanceUID")

    assert {(one["name"], one["study_name"], one["patient_name"]) for one in series(database)} == {
        (CANARIES[3], None, CANARIES[0]),
        ("1.2.3.4.5", None, CANARIES[0]),
    }


def test_folders_are_series_where_a_setting_says_so(inbox: Path, database: Path) -> None:
    for patient in ("p1", "p2"):
        (inbox / patient / "t1").mkdir(parents=True)
        for number in range(3):
            phantom(number, lesion=True, size=96).save(inbox / patient / "t1" / f"{number}.png")

    judged(inbox, database, "--series", "folders")

    assert {(one["name"], one["patient_name"], one["files"]) for one in series(database)} == {
        ("t1", "p1", 3),
        ("t1", "p2", 3),
    }


def test_pattern_that_names_no_series_is_one_line(inbox: Path, database: Path) -> None:
    done = bt_daemon("watch", inbox, "--once", "--db", database, "--series", "(?P<patient>x)")

    assert done.returncode == 2
    assert re.search(r"names no series.*\(\?P<series>", done.stderr, re.DOTALL)
    assert "Traceback" not in done.stderr


def test_killed_again_and_again_every_verdict_follows_its_rows(tmp_path: Path) -> None:
    told = kill_and_compare(tmp_path, kills=8, images=100, chance=random.Random(5))

    assert told["verdicts"] > 2
    assert (told["verdicts_that_differ"], told["integrity"], told["exit_codes"]) == (0, "ok", [0, 0])
