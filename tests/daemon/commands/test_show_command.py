"""`bt-daemon show`, `errors` and `retry`: one image's whole story, what went wrong, and another chance."""

from __future__ import annotations

import json
import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from storage.database import open_writer
from storage.ledger.ledger import Ledger
from storage.records import Failed, FailureKind, Status
from tests.support.databases import Target
from tests.support.hostile_names import HOSTILE_NAMES
from tests.support.stored_results import MODEL, Program, Store, judged, run_in_terminal

pytestmark = pytest.mark.databases

BUSY = Failed(FailureKind.TRANSIENT, "the file cannot be opened (Permission denied)")
NOT_AN_IMAGE = Failed(FailureKind.PERMANENT, "not an image: the content is text")


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")


@pytest.fixture
def store(database: Target, tmp_path: Path) -> Store:
    return Store(database, tmp_path / "inbox")


@pytest.fixture
def program(store: Store, capsys: pytest.CaptureFixture[str]) -> Program:
    return Program(store.path, capsys)


def test_the_story_holds_each_version_with_its_results_and_failed_attempts(
    store: Store, program: Program
) -> None:
    (first,) = store.put([(b"sub/a.png", NOT_AN_IMAGE)])
    (second,) = store.put([(b"sub/a.png", judged("yes", 0.91, slice_index=4, slice_count=20))])

    told = json.loads(program("show", str(first), "--json").out)

    newest, oldest = told["versions"]
    assert told["file"] == f"{store.inbox}/sub/a.png"
    assert (newest["id"], newest["state"], oldest["id"], oldest["state"]) == (
        second,
        "done",
        first,
        "superseded",
    )
    assert (
        newest["results"][0].items()
        >= {
            "class": "yes",
            "confidence": 0.91,
            "status": "ok",
            "slice_index": 4,
            "slice_count": 20,
            "weights_sha256": MODEL.weights_sha256,
        }.items()
    )
    assert len(newest["results"][0]["sha256"]) == 64
    assert oldest["attempts"] == [
        {
            "time": "2026-11-24T08:00:01.000000+00:00",
            "kind": "permanent",
            "reason": "not an image: the content is text",
            "model": "brain-mri",
        }
    ]


def test_a_person_reads_it_as_text_with_the_disclaimer_below(store: Store, program: Program) -> None:
    store.put([(b"a.png", judged("yes", 0.9996, Status.UNCERTAIN, reason="near the threshold"))])

    ran = program("show", "1")

    assert ran.out.splitlines()[0] == f"{store.inbox}/a.png"
    assert "result      yes (uncertain)" in ran.out
    assert "confidence  0.999: calibrated probability of the class that was given" in ran.out
    assert "why         near the threshold" in ran.out
    assert "brain-mri 1.0 a1b2c3d4, openvino bf16 on cpu" in ran.out
    assert ran.err.startswith("Not a medical device")


@pytest.mark.defects(30)
def test_the_score_stands_with_what_it_was_compared_with(store: Store, program: Program) -> None:
    model = replace(MODEL, positive="yes", threshold=0.27, uncertain_low=0.12, uncertain_high=0.42)
    store.put([(b"a.png", judged("no", 0.854, Status.UNCERTAIN, score=0.146))], model=model)

    ran = program("show", "1")
    (version,) = json.loads(program("show", "1", "--json").out)["versions"]

    assert "result      no (uncertain)" in ran.out
    words = "'yes' from 0.27, uncertain between 0.12 and 0.42"
    assert f"score       0.146: calibrated probability of 'yes'; {words}" in ran.out
    wanted = {"score": 0.146, "threshold": 0.27, "positive": "yes", "confidence": 0.854}
    assert version["results"][0].items() >= wanted.items()


def test_an_image_is_found_by_its_path_however_it_is_written(
    store: Store, program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store.put([(b"sub/a.png", judged())])
    (store.inbox / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to(store.inbox)
    monkeypatch.chdir(tmp_path)

    for target in (f"{store.inbox}/sub/a.png", "inbox/sub/a.png", "link/sub/../sub/a.png", "sub/a.png"):
        assert json.loads(program("show", target, "--json").out)["path"] == "sub/a.png"


@pytest.mark.slow
@pytest.mark.databases("sqlite")
def test_every_hostile_name_is_found_and_shown_safely(store: Store, program: Program) -> None:
    store.put([(name, judged()) for name in HOSTILE_NAMES])

    for name in HOSTILE_NAMES[::7]:
        path = os.fsdecode(os.path.join(os.fsencode(store.inbox), name))
        ran = program("show", path)
        assert ran.code == 0
        assert all(char.isprintable() or char == "\n" for char in ran.out)
        assert os.fsencode(json.loads(program("show", path, "--json").out)["path"]) == name


def test_two_models_are_two_results_of_one_version(store: Store, program: Program) -> None:
    store.put([(b"a.png", judged("no"))])
    with closing(open_writer(store.path)) as connection:
        ledger = Ledger(connection, store.clock)
        newer = ledger.model_id(replace(MODEL, weights_sha256="ff" * 32, version="2.0"))
        ledger.reclassify(newer)
        (entry,) = ledger.due(10, store.clock())
        from storage.records import Outcome

        ledger.record([Outcome(entry.file_id, judged("yes"))], newer)

    (version,) = json.loads(program("show", "1", "--json").out)["versions"]

    assert [(result["model"], result["class"]) for result in version["results"]] == [
        ("brain-mri 2.0 ffffffff", "yes"),
        ("brain-mri 1.0 a1b2c3d4", "no"),
    ]


@pytest.mark.parametrize("target", ["99", "nowhere.png", "9" * 30])
def test_what_is_not_known_is_one_line(store: Store, program: Program, target: str) -> None:
    store.put([(b"a.png", judged())])

    ran = program("show", target)

    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"bt-daemon: nothing is known of {target}; bt-daemon results -q NAME finds its ID\n"


def test_errors_lists_what_was_given_up_and_what_is_tried_again(store: Store, program: Program) -> None:
    store.put([(b"ok.png", judged()), (b"letter.jpg", NOT_AN_IMAGE), (b"busy.png", BUSY)])

    busy, letter = json.loads(program("errors", "--json").out)

    assert (letter["file"], letter["status"], letter["reason"], letter["next_try"]) == (
        f"{store.inbox}/letter.jpg",
        "quarantined",
        "not an image: the content is text",
        None,
    )
    assert (busy["status"], busy["attempts"], busy["kind"]) == ("retrying", 1, "transient")
    assert busy["next_try"] > busy["time"]
    assert len(json.loads(program("errors", "--json", "-n", "1").out)) == 1


def test_errors_are_summed_up_by_cause(store: Store, program: Program) -> None:
    store.put([(b"%d.jpg" % number, NOT_AN_IMAGE) for number in range(3)])
    store.put([(b"busy.png", BUSY)])

    found = json.loads(program("errors", "--by-cause", "--json").out)

    assert [(cause["count"], cause["status"], cause["reason"]) for cause in found] == [
        (3, "quarantined", "not an image: the content is text"),
        (1, "retrying", "the file cannot be opened (Permission denied)"),
    ]
    assert program("errors", "--by-cause").out.splitlines()[1].split()[:2] == ["3", "quarantined"]


def test_no_trouble_is_an_empty_list_and_a_word_for_people(store: Store, program: Program) -> None:
    store.put([(b"ok.png", judged())])

    assert program("errors", "--json").out == "[]\n"
    assert program("errors").err == "No image is in trouble.\n"


def test_errors_at_a_terminal_fit_and_name_the_next_step(database: Target) -> None:
    store = Store(database, Path("/srv/mri/inbox"))  # a folder is never cut
    store.put([(b"letter %d.jpg" % number, NOT_AN_IMAGE) for number in range(60)])

    lines = run_in_terminal("errors", "--no-color", "--db", str(store.path), columns=80).splitlines()

    assert max(map(len, lines)) <= 80
    assert "not an image" in "".join(lines)
    assert lines[-2].startswith("The latest 50;")
    assert lines[-1].startswith("Put back with bt-daemon retry ID")


def test_retry_puts_back_what_was_given_up_while_a_daemon_has_the_database_open(
    store: Store, program: Program
) -> None:
    ids = store.put(
        [(b"a.jpg", NOT_AN_IMAGE), (b"b.jpg", NOT_AN_IMAGE), (b"busy.png", BUSY), (b"ok.png", judged())]
    )
    with closing(open_writer(store.path)) as daemon:
        ledger = Ledger(daemon, store.clock)
        ledger.changed_elsewhere()

        ran = program("retry", str(ids[0]))

        assert (ran.code, ran.out) == (0, "1 image put back\n")
        assert ledger.changed_elsewhere()
        assert b"a.jpg" in [entry.version.name for entry in ledger.due(10, store.clock())]
    assert program("retry", "--all").out == "2 images put back\n"
    assert program("errors", "--json").out == "[]\n"


def test_retry_says_when_an_id_was_not_in_trouble(store: Store, program: Program) -> None:
    ids = store.put([(b"a.jpg", NOT_AN_IMAGE), (b"ok.png", judged())])

    ran = program("retry", str(ids[0]), str(ids[1]), "999")

    assert (ran.code, ran.out) == (1, "1 image put back\n")
    assert ran.err == "2 of the IDs are not in trouble (see bt-daemon errors)\n"


@pytest.mark.parametrize("arguments", [[], ["--all", "3"], ["zero"], ["0"], ["9" * 30]])
def test_retry_refuses_what_cannot_be_meant(store: Store, program: Program, arguments: list[str]) -> None:
    store.put([(b"a.jpg", NOT_AN_IMAGE)])

    ran = program("retry", *arguments)

    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)


@pytest.mark.databases("sqlite")
def test_retry_makes_no_database(program: Program) -> None:
    assert program("retry", "--all").code == 3
    assert not program.file.exists()
