"""Paths say which files are a series: BIDS names, folders, or a pattern of one's own."""

from __future__ import annotations

import pytest

from config.errors import UsageError
from daemon.inbox.series_pattern import path_reader
from storage.records import PathMembership

BIDS = {
    b"sub-01/ses-02/anat/sub-01_ses-02_acq-x_T1w.nii.gz": PathMembership(
        "sub-01_ses-02_acq-x_T1w", "ses-02", "sub-01"
    ),
    b"sub-01/anat/sub-01_FLAIR.nii": PathMembership("sub-01_FLAIR", "", "sub-01"),
    b"sub-01/anat/sub-01_T1w_012.png": PathMembership("sub-01_T1w", "", "sub-01", 12.0),
    b"sub-01_T1w_slice-7.png": PathMembership("sub-01_T1w", "", "sub-01", 7.0),
    b"subject/T1w.png": None,
    b"sub-01/notes.txt": None,
}
FOLDERS = {
    b"a.png": None,
    b"se/im0003.dcm": PathMembership("se", position=3.0),
    b"p/se/IM12": PathMembership("se", "", "p", 12.0),
    b"p/st/se/x.png": PathMembership("se", "st", "p"),
    b"archive/2026/p/st/se/slice_3.v2.png": PathMembership("se", "st", "p", 3.0),
}


@pytest.mark.parametrize("path", BIDS)
def test_bids_names_say_subject_session_and_series(path: bytes) -> None:
    read = path_reader("bids")

    assert read is not None
    assert read(path) == BIDS[path]


@pytest.mark.parametrize("path", FOLDERS)
def test_folders_are_series_of_the_folders_around_them(path: bytes) -> None:
    read = path_reader("folders")

    assert read is not None
    assert read(path) == FOLDERS[path]


def test_pattern_of_ones_own_names_what_it_knows() -> None:
    read = path_reader(r"^(?P<series>[a-z]+)-(?P<position>\d+)")

    assert read is not None
    assert read(b"scan-12.png") == PathMembership("scan", position=12.0)
    assert read(b"12.png") is None


def test_name_that_is_not_text_is_safe_to_show() -> None:
    read = path_reader("folders")

    assert read is not None
    said = read(b"p\xff\x1b[31m/im1.png")
    assert said is not None
    assert said.series.isprintable()


def test_no_pattern_reads_nothing() -> None:
    assert path_reader("") is None


@pytest.mark.parametrize("pattern", ["(", "scan", "(?P<patient>x)", "(?P<series>x)(?P<other>y)"])
def test_pattern_that_names_no_series_is_refused_with_an_example(pattern: str) -> None:
    with pytest.raises(UsageError) as refused:
        path_reader(pattern)

    assert "(?P<" in (refused.value.hint or "")
