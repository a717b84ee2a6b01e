"""Whose an image is: by a groups file, else by DICOM's tags, of which pseudonyms alone leave the file."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest

from config.errors import UsageError
from tests.support.dicom_folders import CANARY, draw_dicom_series, write_dicom
from trainer.data.dataset import Collection, Dataset
from trainer.data.memberships import (
    ImageMembership,
    numbered,
    pseudonym_key,
    pseudonymous,
    read_memberships,
    slices_by_series,
)
from trainer.images.picture import Membership
from trainer.model.spec import Preprocessing

HOW = Preprocessing(image_size=32)
KEY = bytes(range(32))


def _loaded(root: Path, cache: Path, groups: Path | None = None) -> Dataset:
    return Collection((root,), {}, cache, groups=groups).load(HOW)


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_dicom_series(tmp_path_factory.mktemp("dicom") / "scans", 2)


def test_a_groups_file_names_patients_by_the_path_below_the_roots(tmp_path: Path) -> None:
    file = tmp_path / "groups.csv"
    file.write_text("file,patient\na/yes/p1_t1_007_x.png,p1\na/no/p1_t1_12_x.png,p1\na/no/alone.png,p2\n")

    first, second, alone, unknown = read_memberships(
        file, ["a/yes/p1_t1_007_x.png", "a/no/p1_t1_12_x.png", "a/no/alone.png", "a/no/2.png"]
    )

    assert (first.patient, first.position, second.position) == ("p1", 7, 12)
    assert first.series == second.series != ""
    assert alone == ImageMembership("p2")
    assert unknown == ImageMembership()


def test_a_groups_file_may_name_series_and_positions(tmp_path: Path) -> None:
    file = tmp_path / "groups.csv"
    file.write_text("file,patient,series,position\na/b/1.png,p,t1,2.5\na/b/2.png,p,t2,1\na/b/3.png,p,t1,1\n")

    found = read_memberships(file, ["a/b/1.png", "a/b/2.png", "a/b/3.png"])

    assert list(slices_by_series(found).values()) == [[2, 0], [1]]


def test_a_groups_file_without_its_columns_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "groups.csv"
    file.write_text("name,who\n")

    with pytest.raises(UsageError, match="lacks the columns"):
        read_memberships(file, [])
    with pytest.raises(UsageError, match="cannot read"):
        read_memberships(tmp_path / "none.csv", [])


def test_dicom_tags_tell_patients_series_and_positions(heads: Path, tmp_path: Path) -> None:
    dataset = _loaded(heads, tmp_path / "cache")

    assert len(set(dataset.patients)) == 4
    series = slices_by_series(dataset.memberships)
    assert sorted(map(len, series.values())) == [3] * 4
    for places in series.values():
        assert [dataset.memberships[place].position for place in places] == [0, 1, 2]
        assert len({dataset.patients[place] for place in places}) == 1
    again = _loaded(heads, tmp_path / "cache")  # from the cache
    assert again.memberships == dataset.memberships


@pytest.mark.slow
def test_no_identifier_is_kept_in_the_clear_and_another_user_has_other_pseudonyms(
    heads: Path, tmp_path: Path
) -> None:
    dataset, other = _loaded(heads, tmp_path / "cache"), _loaded(heads, tmp_path / "other")

    written = b"".join(path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert written
    for secret in (CANARY, "1.2.826.0"):
        assert secret.encode() not in written
        assert secret.encode("utf-32-le") not in written  # as numpy keeps text
        assert secret not in str(dataset.memberships)
    assert not set(dataset.patients) & set(other.patients)
    key = tmp_path / "cache" / "pseudonym.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert pseudonym_key(tmp_path / "cache") == key.read_bytes()


def test_where_no_key_can_be_kept_there_is_one_for_the_run(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")

    assert len(pseudonym_key(tmp_path / "cache")) == 32


def test_a_groups_file_goes_before_tags_and_they_before_nothing(heads: Path, tmp_path: Path) -> None:
    one = sorted((heads / "yes").iterdir())[0]
    groups = tmp_path / "groups.csv"
    groups.write_text(f"file,patient\nscans/yes/{one.name},somebody\n")

    dataset = _loaded(heads, tmp_path / "cache", groups)

    assert dataset.patients.count("somebody") == 1
    assert all(dataset.patients)


@pytest.mark.parametrize("name", ["", "ANON", "clinic/Anonymous", "0"])
def test_a_name_that_de_identification_leaves_joins_nobody(name: str) -> None:
    one, other = (pseudonymous(Membership(series, study, name), KEY) for series, study in ("ax", "by"))

    assert one.patient != other.patient
    assert pseudonymous(Membership("c", "x", name), KEY).patient == one.patient  # of the same study


def test_tables_number_patients_series_and_slices() -> None:
    memberships = [
        ImageMembership("b", "s", 9),
        ImageMembership(),
        ImageMembership("a"),
        ImageMembership("b", "s", -1.5),
    ]

    assert numbered(memberships) == [("1", "1", "2"), ("", "", ""), ("2", "", ""), ("1", "1", "1")]


def test_an_image_that_says_nothing_belongs_to_nobody(tmp_path: Path) -> None:
    for label in ("no", "yes"):
        for number in range(2):
            picture = np.random.default_rng(number).integers(0, 255, (64, 64), dtype=np.uint8)
            write_dicom(tmp_path / "d" / label / f"{number}.dcm", picture, f"p{number}", "1", number)
            path = tmp_path / "d" / label / f"{number}.dcm"
            path.write_bytes(path.read_bytes().replace(b"\x20\x00\x0e\x00UI", b"\x20\x00\x0e\x10UI"))

    dataset = _loaded(tmp_path / "d", tmp_path / "cache")

    assert set(dataset.memberships) == {ImageMembership()}
