"""Which entries of an inbox are taken."""

from __future__ import annotations

import pytest

from daemon.inbox.filters import Choice, InboxRules, why_passed_over

ROOT = b"/inbox"


@pytest.mark.parametrize(
    "name",
    [
        b".DS_Store", b"._x.png", b".stfolder", b".syncthing.a.png.tmp", b"a.png.filepart", b"a.png.part",
        b"a.CRDOWNLOAD", b"a.png~", b"x.TMP", b"Thumbs.db", b"a.partial", b".nfs0001",
        b"~$a.png", b".hidden\n",
    ],
)  # fmt: skip
def test_leftovers_of_other_programs_are_ignored(name: bytes) -> None:
    choice = Choice(InboxRules(), ROOT)

    assert not choice.takes_file(b"", name)


@pytest.mark.parametrize(
    "name",
    [
        b"a.PNG",
        b"scan",
        b"IM000001",
        b"1.2.840.10008.5",
        b"T1w.nii.gz",
        b"export.zip",  # its row says to unpack it
        b"a.img",
        b"part.png",
        b"tmp",
        b"\xff\n.png",
        b"x.png.done",
    ],
)
def test_every_other_file_is_taken_whatever_its_extension(name: bytes) -> None:
    choice = Choice(InboxRules(), ROOT)

    assert choice.takes_file(b"a/b", name)


@pytest.mark.parametrize("folder", [b"@eaDir", b"a/.stfolder", b"$RECYCLE.BIN", b"a/__MACOSX", b".git"])
def test_folders_of_other_programs_are_not_entered(folder: bytes) -> None:
    choice = Choice(InboxRules(), ROOT)

    assert not choice.enters_folder(folder)


@pytest.mark.parametrize(
    ("glob", "folder", "name", "taken"),
    [
        ("*.png", b"", b"a.PNG", True),
        ("*.png", b"deep/er", b"a.png", True),
        ("*.png", b"", b"a.jpg", False),
        ("mr/*.png", b"mr", b"a.png", True),
        ("mr/*.png", b"mr/deep", b"a.png", False),
        ("mr/**/*.png", b"mr", b"a.png", True),
        ("mr/**/*.png", b"mr/a/b", b"a.png", True),
        ("mr/**", b"mr/a/b", b"a", True),
        ("**/t1/*", b"x/T1", b"a", True),
        ("scan[0-9].png", b"", b"scan7.png", True),
        ("scan[!0-9].png", b"", b"scan7.png", False),
        ("scan?.png", b"", b"scan/.png", False),
        ("a.b", b"", b"axb", False),
        ("a[b", b"", b"a[b", True),
        ("a[b", b"", b"c", False),
        ("!a", b"x", b"!a", True),
        ("#a", b"", b"b", False),
        ("/top.png", b"", b"top.png", True),
        ("/top.png", b"deep", b"top.png", False),
        ("scans/", b"old/scans", b"a.png", True),
        ("*", b"", b"\xff\n", True),
    ],
)
def test_an_include_glob_takes_what_it_matches(glob: str, folder: bytes, name: bytes, taken: bool) -> None:
    choice = Choice(InboxRules(include=(glob,)), ROOT)

    assert choice.takes_file(folder, name) is taken


def test_exclude_wins_over_include_and_spares_whole_folders() -> None:
    choice = Choice(InboxRules(include=("*.png",), exclude=("old", "x*.png")), ROOT)

    assert choice.takes_file(b"", b"a.png")
    assert not choice.takes_file(b"", b"x1.png")
    assert not choice.enters_folder(b"a/OLD")
    assert choice.enters_folder(b"a/older")


def test_folders_that_finished_files_are_moved_to_are_not_entered() -> None:
    choice = Choice(InboxRules(skip_folders=(b"/inbox/done", b"/elsewhere")), ROOT)

    assert not choice.enters_folder(b"done")
    assert choice.enters_folder(b"sub/done")


def test_marker_files_are_taken_only_when_they_mean_nothing() -> None:
    assert Choice(InboxRules(), ROOT).takes_file(b"", b"a.png.done")
    assert not Choice(InboxRules(done_files=True), ROOT).takes_file(b"", b"a.png.done")


@pytest.mark.defects(40)
@pytest.mark.parametrize(
    "name",
    [
        b"sub-01_T1w.json", b"participants.tsv", b"dwi.bval", b"dwi.BVEC", b"notes.TXT", b"scans.7z",
        b"a.csv", b"a.xml", b"a.html", b"a.pdf", b"a.log", b"a.nfo", b"a.md", b"README", b"CHANGES",
        b"DICOMDIR", b"physio.tsv.gz", b"all.tar.gz",
    ],
)  # fmt: skip
def test_sidecars_and_documents_are_passed_over_unless_they_are_included(name: bytes) -> None:
    assert not Choice(InboxRules(), ROOT).takes_file(b"sub-01/anat", name)
    assert Choice(InboxRules(include=("*",)), ROOT).takes_file(b"sub-01/anat", name)
    assert why_passed_over(name)


@pytest.mark.defects(40)
def test_what_an_option_leaves_out_is_not_counted_as_passed_over() -> None:
    assert why_passed_over(b"a.png") == ""
    assert why_passed_over(b".DS_Store") == "hidden"
    assert why_passed_over(b"a.png.part") == "leftover"
