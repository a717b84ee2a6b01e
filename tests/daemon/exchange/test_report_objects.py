"""A structured report is valid, names what it is about, and is of the very files that were judged."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from config.extras import installed
from config.text import DISCLAIMER
from daemon.cli import main
from tests.support.dicom_series import (
    PATIENT_ID,
    PATIENT_NAME,
    ROOT,
    series_uid,
    write_frames,
    write_series,
)
from trainer.images.phantom import phantom

VALIDATOR = shutil.which("dciodvfy")

pytestmark = [
    pytest.mark.slow,  # a daemon judges first
    # To import it takes a second: for the tests to be found it is not needed.
    pytest.mark.skipif(not installed("highdicom"), reason="the extra sr is not installed"),
]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two DICOM series as files, one as frames and one of PNG, judged into x.db."""
    folder = tmp_path_factory.mktemp("judged")
    write_series(folder / "in" / "a", 1, 3)
    write_series(folder / "in" / "b", 2, 2)
    write_frames(folder / "in" / "c" / "frames.dcm", 3, 3)
    for index in range(2):
        (folder / "in" / "d").mkdir(exist_ok=True)
        phantom(index, lesion=False).save(folder / "in" / "d" / f"sub-7_T1w_{index}.png")
    words = ["watch", str(folder / "in"), "--once", "--settle", "0s", "-q", "--series", "bids"]
    assert main([*words, "--db", str(folder / "x.db")]) == 0
    return folder


def _export(judged: Path, folder: Path, *options: str) -> int:
    return int(main(["report", "--db", str(judged / "x.db"), "--dicom-sr", str(folder), *options]))


def _reports(folder: Path) -> dict[str, Any]:
    """Return the reports by the SeriesInstanceUID that they are about, as highdicom reads them."""
    import highdicom

    found = {}
    for path in folder.iterdir():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            report = highdicom.sr.srread(path)
        (evidence,) = report.CurrentRequestedProcedureEvidenceSequence
        (series,) = evidence.ReferencedSeriesSequence
        found[str(series.SeriesInstanceUID)] = report
    return found


def _items(dataset: Dataset) -> Iterator[Dataset]:
    for item in dataset.get("ContentSequence", ()):
        yield item
        yield from _items(item)


def _named(report: Dataset, meaning: str) -> list[Dataset]:
    return [item for item in _items(report) if item.ConceptNameCodeSequence[0].CodeMeaning == meaning]


@contextmanager
def _away(file: Path) -> Iterator[None]:
    hidden = file.rename(file.with_suffix(".away"))
    try:
        yield
    finally:
        hidden.rename(file)


def test_a_report_tells_the_answer_its_model_and_what_it_was_made_of(judged: Path, tmp_path: Path) -> None:
    assert _export(judged, tmp_path / "sr") == 0

    report = _reports(tmp_path / "sr")[series_uid(1)]
    (group,) = report.content.get_image_measurement_groups()
    measured = {one.name.meaning: one.value for one in group.get_measurements()}
    assert measured["Slices judged"] + measured["Slices rejected: unlike what the model was made for"] == 3
    evaluated = {one.name.meaning for one in group.get_qualitative_evaluations()}
    assert "Status" in evaluated
    assert {image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for image in group.source_images} == {
        f"{ROOT}.1.{number}" for number in (1, 2, 3)
    }
    parameters = [item.TextValue for item in _named(report, "Algorithm Parameters")]
    assert parameters[0].startswith("weights sha256 ")
    assert [item.TextValue for item in _named(report, "Algorithm Name")] == ["bt-default"]
    if "Class" in evaluated:
        (decisive,) = _named(report, "Slice with the highest score")
        assert str(decisive.ReferencedSOPSequence[0].ReferencedSOPInstanceUID).startswith(f"{ROOT}.1.")


def test_a_report_is_marked_as_research_and_unverified(judged: Path, tmp_path: Path) -> None:
    assert _export(judged, tmp_path / "sr", "--series-quiet", "1h") == 2  # an option of watch
    assert _export(judged, tmp_path / "sr") == 0

    for report in _reports(tmp_path / "sr").values():
        assert report.VerificationFlag == "UNVERIFIED"
        assert report.PreliminaryFlag == "PRELIMINARY"
        assert report.CompletionFlag == "PARTIAL"  # it was touched a moment ago
        assert [item.TextValue for item in _named(report, "Comment")] == [DISCLAIMER]
        assert "research use only" in report.SeriesDescription


def test_a_report_belongs_to_the_study_and_patient_of_its_images(judged: Path, tmp_path: Path) -> None:
    assert _export(judged, tmp_path / "sr") == 0

    report = _reports(tmp_path / "sr")[series_uid(2)]
    assert (report.PatientID, str(report.PatientName)) == (PATIENT_ID, PATIENT_NAME)
    assert (report.StudyInstanceUID, report.AccessionNumber) == (f"{ROOT}.9", "CANARY-ACC")
    assert report.SeriesInstanceUID != series_uid(2)
    assert report.Modality == "SR"


def test_reports_are_valid_by_an_independent_validator(judged: Path, tmp_path: Path) -> None:
    if VALIDATOR is None:
        pytest.skip("needs dciodvfy of dicom3tools")
    assert _export(judged, tmp_path / "sr") == 0

    for path in (tmp_path / "sr").iterdir():
        done = subprocess.run([VALIDATOR, str(path)], capture_output=True, check=False)
        said = (done.stdout + done.stderr).decode("utf-8", "replace")
        assert "ComprehensiveSR" in said
        assert [line for line in said.splitlines() if line.startswith("Error")] == []


def test_the_decisive_frame_of_a_multi_frame_object_is_named(judged: Path, tmp_path: Path) -> None:
    assert _export(judged, tmp_path / "sr") == 0

    report = _reports(tmp_path / "sr")[series_uid(3)]
    for item in _named(report, "Slice with the highest score"):
        assert item.ReferencedSOPSequence[0].ReferencedFrameNumber in (1, 2, 3)
    assert len(_named(report, "Source of Measurement")) == 1


def test_the_same_answer_about_the_same_objects_is_the_same_report(judged: Path, tmp_path: Path) -> None:
    assert _export(judged, tmp_path / "one") == _export(judged, tmp_path / "two") == 0

    one, two = _reports(tmp_path / "one"), _reports(tmp_path / "two")
    assert len({str(report.SOPInstanceUID) for report in one.values()}) == len(one) == 3
    for series, report in one.items():
        assert report.SOPInstanceUID == two[series].SOPInstanceUID
        assert report.ContentTime == two[series].ContentTime
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted(
        path.name for path in (tmp_path / "two").iterdir()
    )


def test_series_whose_files_are_gone_changed_or_not_dicom_are_counted_and_others_written(
    judged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    changed = judged / "in" / "b" / "IM0001.dcm"
    content = changed.read_bytes()
    changed.write_bytes(content[:-1] + b"\1")
    try:
        with _away(judged / "in" / "a" / "IM0002.dcm"):
            assert _export(judged, tmp_path / "sr") == 0
    finally:
        changed.write_bytes(content)

    assert _reports(tmp_path / "sr").keys() == {series_uid(3)}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("1 structured report written to ")
    assert "; left out: " in line
    assert "2 series whose files are gone or have changed" in line
    assert "1 series that are not DICOM" in line


def test_without_any_report_there_is_one_line_and_no_folder(
    judged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()

    assert _export(judged, tmp_path / "sr", "-q", "sub-7_T1w") == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bt-daemon: no report was written: 1 series that are not DICOM")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_images_is_never_written_over(judged: Path, tmp_path: Path) -> None:
    images = judged / "in" / "a"
    before = sorted(images.iterdir())

    assert _export(judged, images) == 2
    assert _export(judged, images, "--overwrite") == 2
    assert sorted(images.iterdir()) == before


def test_an_earlier_export_is_replaced_when_asked(judged: Path, tmp_path: Path) -> None:
    assert _export(judged, tmp_path / "sr") == 0

    assert _export(judged, tmp_path / "sr") == 2
    assert _export(judged, tmp_path / "sr", "--overwrite") == 0
    assert len(list((tmp_path / "sr").iterdir())) == 3


def test_odd_headers_leave_their_series_out_without_a_word_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_series(tmp_path / "in" / "a", 1, 2)
    write_series(tmp_path / "in" / "b", 2, 2, PatientSex="CANARY", PatientBirthDate="")
    write_series(tmp_path / "in" / "c", 3, 2, StudyInstanceUID="")
    words = ["watch", str(tmp_path / "in"), "--once", "--settle", "0s", "-q"]
    assert main([*words, "--db", str(tmp_path / "x.db")]) == 0
    capsys.readouterr()

    assert _export(tmp_path, tmp_path / "sr") == 0

    found = _reports(tmp_path / "sr")
    assert found.keys() == {series_uid(1), series_uid(2)}
    assert found[series_uid(2)].PatientSex in ("", None)
    said = capsys.readouterr().err
    assert "1 series whose objects lack identifiers" in said
    assert "CANARY" not in said


def test_real_series_have_valid_reports(shared: Path, tmp_path: Path) -> None:
    shutil.copytree(shared / "data" / "dicom" / "brainix-flair", tmp_path / "in" / "flair")
    shutil.copytree(shared / "data" / "dicom" / "brainix-t1", tmp_path / "in" / "t1")
    words = ["watch", str(tmp_path / "in"), "--once", "--settle", "0s", "-q"]
    assert main([*words, "--db", str(tmp_path / "x.db")]) == 0

    assert _export(tmp_path, tmp_path / "sr") == 0

    sizes = sorted(len(_named(one, "Source of Measurement")) for one in _reports(tmp_path / "sr").values())
    assert sizes == [5, 22]
    if VALIDATOR is not None:
        for path in (tmp_path / "sr").iterdir():
            done = subprocess.run([VALIDATOR, str(path)], capture_output=True, check=False)
            assert b"\nError" not in b"\n" + done.stdout + done.stderr
