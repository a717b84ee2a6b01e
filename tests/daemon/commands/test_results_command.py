"""`bt-daemon results` answers what came in, what was found and how sure it is, for people and programs."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.output.result_columns import COLUMNS
from storage.records import Failed, FailureKind, Judged, Status
from storage.schema import file, result
from tests.conftest import REPOSITORY
from tests.support.databases import Target, is_server, raw
from tests.support.hostile_names import HOSTILE_NAMES
from tests.support.stored_results import MODEL, Program, Store, judged, run_in_terminal

pytestmark = pytest.mark.databases

UNSAFE = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
DISCLAIMER = "Not a medical device: research use only, never for diagnosis or treatment.\n"
NOT_AN_IMAGE = Failed(FailureKind.PERMANENT, "not an image: the content is text")
TAGS = {"StudyInstanceUID": "1.2.3"}
UNLIKE = Judged(Status.REJECTED, None, None, "unlike any training image")


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")


@pytest.fixture
def store(database: Target, tmp_path: Path) -> Store:
    return Store(database, tmp_path / "inbox")


@pytest.fixture
def program(store: Store, capsys: pytest.CaptureFixture[str]) -> Program:
    return Program(store.path, capsys)


@pytest.fixture
def filled(store: Store) -> Store:
    """Five results, a second apart from 08:00:01 UTC on 2026-11-24."""
    store.put(
        [
            (b"no 5.jpeg", judged("no", 0.97)),
            (
                b"sub/yes.png",
                judged("yes", 0.8, slice_index=3, slice_count=20, tags={"StudyInstanceUID": "1.2.3"}),
            ),
            (b"sub/unsure.png", judged("yes", 0.55, Status.UNCERTAIN, reason="near the threshold")),
            (b"holiday.jpg", UNLIKE),
            (b"letter.jpg", NOT_AN_IMAGE),
        ]
    )
    return store


def _names(program: Program, *arguments: str) -> list[str]:
    ran = program("results", "--format", "json", *arguments)
    assert ran.code == 0, ran.err
    return [row["path"] for row in json.loads(ran.out)]


def test_a_pipe_gets_every_row_whole_newest_first_without_decoration(filled: Store, program: Program) -> None:
    ran = program("results")

    lines = ran.out.splitlines()
    assert ran.code == 0
    assert lines[0].split() == ["id", "time", "file", "class", "confidence", "status", "model", "reason",
                                "score", "threshold", "positive"]  # fmt: skip
    assert [line.split()[0] for line in lines[1:]] == ["5", "4", "3", "2", "1"]
    assert re.split(r"\s{2,}", lines[5].strip()) == [
        "1",
        "2026-11-24 08:00:01+00:00",
        f"{filled.inbox}/no 5.jpeg",
        "no",
        "0.970",
        "ok",
        "brain-mri 1.0 a1b2c3d4",
        *("-", "-", "-", "-"),
    ]
    assert "error" in lines[1]
    assert "not an image: the content is text" in lines[1]
    assert ran.err == DISCLAIMER


def test_json_holds_all_that_is_known_of_a_row(filled: Store, program: Program) -> None:
    ran = program("results", "--format", "json", "-q", "sub/yes")

    (row,) = json.loads(ran.out)
    assert (
        row.items()
        >= {
            "id": 2,
            "time": "2026-11-24T08:00:02.000000+00:00",
            "file": f"{filled.inbox}/sub/yes.png",
            "class": "yes",
            "confidence": 0.8,
            "status": "ok",
            "model": "brain-mri 1.0 a1b2c3d4",
            "weights_sha256": MODEL.weights_sha256,
            "reason": None,
            "slice_index": 3,
            "slice_count": 20,
            "tags": {"StudyInstanceUID": "1.2.3"},
            "superseded": False,
        }.items()
    )
    assert list(row) == [*COLUMNS, "reviewed", "reviewer"]
    assert ran.err == ""


def test_an_empty_answer_is_valid_in_every_format(filled: Store, program: Program) -> None:
    for form, empty in (("json", "[]\n"), ("jsonl", ""), ("csv", "id,class\n"), ("tsv", "id\tclass\n")):
        ran = program("results", "--class", "none such", "--format", form, "--columns", "id,class")
        assert (ran.code, ran.out) == (0, empty)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--class", "yes"], ["sub/unsure.png", "sub/yes.png"]),
        (["--class", "yes", "--class", "no"], ["sub/unsure.png", "sub/yes.png", "no 5.jpeg"]),
        (["--class", "yes,no"], ["sub/unsure.png", "sub/yes.png", "no 5.jpeg"]),
        (["--status", "error,rejected", "--status", "error"], ["letter.jpg", "holiday.jpg"]),
        (["--min-confidence", "0.8"], ["sub/yes.png", "no 5.jpeg"]),
        (["--status", "error"], ["letter.jpg"]),
        (["--status", "error", "--status", "rejected"], ["letter.jpg", "holiday.jpg"]),
        (["--status", "all", "-n", "1"], ["letter.jpg"]),
        (["-q", "SUB/"], ["sub/unsure.png", "sub/yes.png"]),
        (["-q", "near the"], ["sub/unsure.png"]),
        (["-q", "%"], []),
        (["-q", "\udcff"], []),
        (["--since", "-20000d", "-n", "1"], ["letter.jpg"]),
        (["-n", "2"], ["letter.jpg", "holiday.jpg"]),
        (["-n", "0"], []),
        (["--reverse", "-n", "2"], ["no 5.jpeg", "sub/yes.png"]),
        (["--sort", "confidence", "-n", "2"], ["no 5.jpeg", "sub/yes.png"]),
        (["--sort", "file", "-n", "2"], ["holiday.jpg", "letter.jpg"]),
        (["--since", "2026-11-24 08:00:04"], ["letter.jpg", "holiday.jpg"]),
        (["--until", "2026-11-24T08:00:02Z"], ["no 5.jpeg"]),
        (
            ["--since", "@1795507202", "--until", "2026-11-24 09:00:04+01:00"],
            ["sub/unsure.png", "sub/yes.png"],
        ),
        (["--model", "a1b2"], ["letter.jpg", "holiday.jpg", "sub/unsure.png", "sub/yes.png", "no 5.jpeg"]),
        (["--model", "another"], []),
    ],
)
def test_filters_limits_and_sorting(
    filled: Store, program: Program, arguments: list[str], names: list[str]
) -> None:
    assert _names(program, *arguments) == names


def test_count_and_summary_are_over_everything_that_passes(filled: Store, program: Program) -> None:
    assert program("results", "--count").out == "5\n"
    assert program("results", "--count", "--class", "yes", "-n", "1").out == "2\n"
    assert json.loads(program("results", "--summary", "--format", "json").out) == [
        {"class": None, "status": "error", "count": 1, "model": "brain-mri 1.0 a1b2c3d4"},
        {"class": "no", "status": "ok", "count": 1, "model": "brain-mri 1.0 a1b2c3d4"},
        {"class": "yes", "status": "ok", "count": 1, "model": "brain-mri 1.0 a1b2c3d4"},
        {"class": None, "status": "rejected", "count": 1, "model": "brain-mri 1.0 a1b2c3d4"},
        {"class": "yes", "status": "uncertain", "count": 1, "model": "brain-mri 1.0 a1b2c3d4"},
    ]  # fmt: skip


def test_columns_are_chosen_and_a_dicom_tag_is_one_of_them(filled: Store, program: Program) -> None:
    ran = program(
        "results", "--format", "csv", "--columns", "id,tags.StudyInstanceUID,slice_index", "--class", "yes"
    )

    repeated = program(
        "results", "--format", "csv", "--columns", "id,tags.StudyInstanceUID", "--columns", "slice_index",
        "--class", "yes",
    )  # fmt: skip

    assert ran.out == repeated.out == "id,tags.StudyInstanceUID,slice_index\n3,,\n2,1.2.3,3\n"


def test_times_are_local_with_their_offset_or_utc(
    filled: Store, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    arguments = ["results", "-n", "1", "--format", "csv", "--columns", "time"]

    assert program(*arguments).out == "time\n2026-11-24T13:30:05.000000+05:30\n"
    assert program(*arguments, "--utc").out == "time\n2026-11-24T08:00:05.000000+00:00\n"
    assert len(_names(program, "--since", "2026-11-24 13:30:05")) == 1
    assert len(_names(program, "--since", "2026-11-24 08:00:05", "--utc")) == 1


def test_a_file_is_written_in_the_format_of_its_name(filled: Store, program: Program, tmp_path: Path) -> None:
    ran = program("results", "-o", str(tmp_path / "all.json"))
    program("results", "-o", str(tmp_path / "all.tsv"))

    assert ran.out == ""
    assert "5 rows written to" in ran.err
    assert len(json.loads((tmp_path / "all.json").read_text())) == 5
    assert (tmp_path / "all.tsv").read_text().startswith("id\ttime\t")
    assert program("results", "-n", "1", "--format", "jsonl", "-o", "-").out.startswith('{"id": 5')


def test_parquet_goes_to_a_file(filled: Store, program: Program, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")

    program("results", "-o", str(tmp_path / "all.parquet"))

    table = parquet.read_table(tmp_path / "all.parquet")
    assert table.num_rows == 5
    assert table.column("class").to_pylist() == [None, None, "yes", "yes", "no"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--since", "soon"], "'soon' is not a time; write it as today, yesterday"),
        (["--until", "2026-02-30"], "'2026-02-30' is not a time; write it as"),
        (["--since", "today", "--until", "yesterday"], "--since is not before --until"),
        (["--columns", "clas"], "did you mean class?"),
        (["--columns", "tags.StudyInstanceUid"], "did you mean StudyInstanceUID?"),
        (["--status", "ok,fine"], "Invalid value for '--status'"),
        (["--status", ""], "Invalid value for '--status'"),
        (["--columns", ""], "--columns names no column"),
        (["--min-confidence", "2"], "Invalid value for '--min-confidence'"),
        (["--min-confidence", "nan"], "--min-confidence nan is not"),
        (["--status", "fine"], "Invalid value for '--status'"),
        (["-n", "-1"], "Invalid value for '-n'"),
        (["-n", "9" * 30], "Invalid value for '-n'"),
        (["--columns", "tags."], "there is no column 'tags.'"),
        (["--count", "--summary"], "--count and --summary exclude each other"),
        (["--follow", "--format", "json"], "--follow never ends"),
        (["--follow", "-o", "x.csv"], "--follow never ends"),
        (["--follow", "--sort", "class"], "--follow shows results in the order"),
        (["--folow"], "No such option"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_exit_code_2(
    filled: Store, program: Program, arguments: list[str], line: str
) -> None:
    ran = program("results", *arguments)

    assert (ran.code, ran.out) == (2, "")
    assert line in ran.err
    assert ran.err.count("\n") == 1


def test_q_filters_after_the_command_and_hushes_before_it(filled: Store, program: Program) -> None:
    assert program("-q", "results", "-q", "yes").err == ""
    assert program("results", "--quiet").err == ""
    assert len(program("-q", "results", "-q", "sub/yes").out.splitlines()) == 2


@pytest.mark.databases("sqlite")
def test_a_database_that_was_named_and_is_not_there_is_an_error(program: Program) -> None:
    ran = program("results", "--format", "json")

    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("bt-daemon: there is no database at ")
    assert not program.file.exists()


def test_without_a_database_of_ones_own_there_are_just_no_results_yet(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from daemon.cli import main

    code = main(["results", "--format", "json"])

    assert (code, capsys.readouterr().out) == (0, "[]\n")


def test_five_hundred_hostile_names_come_through_every_output(store: Store, program: Program) -> None:
    store.put([(name, judged()) for name in HOSTILE_NAMES])

    by_json = json.loads(program("results", "--format", "json", "--reverse").out)
    lines = program("results", "--format", "jsonl", "--reverse").out.splitlines()
    texts = {form: program("results", "--format", form).out for form in ("table", "csv", "tsv")}

    assert [os.fsencode(row["path"]) for row in by_json] == list(HOSTILE_NAMES)
    assert [json.loads(line) for line in lines] == by_json
    assert len(texts["table"].splitlines()) == 501
    assert len(list(csv.reader(io.StringIO(texts["csv"])))) == 501
    assert len(list(csv.reader(io.StringIO(texts["tsv"]), delimiter="\t"))) == 501
    for text in texts.values():
        assert not re.search(
            "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text
        )


@pytest.mark.slow
@pytest.mark.databases("sqlite")
def test_hostile_names_leave_a_terminal_as_it_was(store: Store) -> None:
    store.put([(name, judged()) for name in HOSTILE_NAMES])

    shown = run_in_terminal("results", "-n", "500", "--db", str(store.path), columns=80)

    assert set(re.findall("\x1b.{0,8}?[A-Za-z]", shown)) <= {"\x1b[2m", "\x1b[0m", "\x1b[1m", "\x1b[32m"}
    assert not re.search("[\x07\x08\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)


@pytest.mark.parametrize("columns", [80, 140])
@pytest.mark.databases("sqlite")
def test_a_terminal_gets_a_page_that_fits_and_says_how_much_more(database: Target, columns: int) -> None:
    store = Store(database, Path("/srv/mri/inbox"))  # a folder is never cut
    store.put([(b"series/a rather long file name %d.png" % number, judged()) for number in range(40)])
    store.put([(b"series/letter.jpg", NOT_AN_IMAGE)])

    shown = run_in_terminal("results", "--db", str(store.path), columns=columns, rows=24)

    lines = re.sub("\x1b\\[[0-9;]*m", "", shown).splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[0] == f"in {store.inbox}/series/"
    assert "letter.jpg" in lines[3]
    assert "not an image" in "".join(lines[4:6])
    assert lines[-2] == "17 of 41 results; -n 41 shows all, -o results.csv saves all."
    assert lines[-1] + "\n" == DISCLAIMER


@pytest.mark.slow
@pytest.mark.defects(39)
@pytest.mark.parametrize("columns", [40, 50, 80, 120])
@pytest.mark.databases("sqlite")
def test_at_any_width_ids_and_numbers_are_whole_and_nothing_is_broken(store: Store, columns: int) -> None:
    found = replace(judged(confidence=0.987), score=0.987)
    store.put([(b"series/a rather long file name %d.png" % n, found) for n in range(1100)])
    store.put([(b"series/letter.jpg", NOT_AN_IMAGE)])

    for command in (["results", "-n", "3"], ["errors"]):
        shown = run_in_terminal(*command, "--db", str(store.path), columns=columns)

        lines = re.sub("\x1b\\[[0-9;]*m", "", shown).splitlines()
        table = [line for line in lines[1:] if re.match(r" *\d+  | *id  ", line)]
        assert table[0].split()[0] == "id"
        assert re.match(r"1101 .*letter\.jpg .*(error|quarantined)", table[1])
        assert all(len(line) <= columns for line in table)
        if command[0] == "results":
            assert [line.split()[0] for line in table] == ["id", "1101", "1100", "1099"]
            assert all(re.search(r"\d+\.png +yes +0\.987 +ok", line) for line in table[2:])


@pytest.mark.slow
def test_a_page_whose_total_would_need_every_row_does_not_wait_for_it(store: Store) -> None:
    store.put([(b"%d.png" % number, judged()) for number in range(40)])

    shown = run_in_terminal("results", "-q", "png", "--db", str(store.path))

    assert "\nThe first 17 results; --count counts all, -o results.csv saves all.\n" in shown


@pytest.mark.slow
@pytest.mark.databases("sqlite")
def test_no_color_and_a_dumb_terminal_are_respected(filled: Store) -> None:
    database = str(filled.path)

    assert "\x1b[" in run_in_terminal("results", "--db", database)
    assert "\x1b" not in run_in_terminal("results", "--db", database, environ={"NO_COLOR": "1"})
    assert "\x1b" not in run_in_terminal("results", "--no-color", "--db", database)
    assert "\x1b" not in run_in_terminal("results", "--summary", "--db", database, environ={"TERM": "dumb"})


@pytest.mark.slow
@pytest.mark.databases("sqlite")
def test_a_terminal_is_told_why_there_is_nothing_to_show(filled: Store) -> None:
    shown = run_in_terminal("results", "--class", "tumor", "--db", str(filled.path))

    assert shown == "no result has the class 'tumor'; there are 'no', 'yes'\nNo results match.\n"
    assert "0 of 5 results" in run_in_terminal("results", "-n", "0", "--db", str(filled.path))


@pytest.mark.defects(41)
def test_a_class_is_found_whatever_its_case_and_another_is_told_beside_what_there_is(
    filled: Store, program: Program
) -> None:
    for arguments in (["--format", "json"], ["--count"], ["--summary"], ["--format", "csv"]):
        assert (
            program("results", "--class", "YES", *arguments).out
            == program("results", "--class", "yes", *arguments).out
        )
    assert _names(program, "--class", "YES") == ["sub/unsure.png", "sub/yes.png"]

    for arguments in (["--format", "json"], ["--count"]):
        ran = program("results", "--class", "no,tumor", *arguments)
        assert ran.err == "no result has the class 'tumor'; there are 'no', 'yes'\n"
        assert "no 5.jpeg" in ran.out or ran.out == "1\n"
    assert program("-q", "results", "--class", "tumor", "--count").err == ""


@pytest.mark.defects(28)
def test_a_class_whose_name_holds_a_comma_or_differs_by_case_is_meant_as_it_is(
    store: Store, program: Program
) -> None:
    store.put([(b"1.png", judged("a, b")), (b"2.png", judged("a")), (b"3.png", judged("A"))])

    assert _names(program, "--class", "a, b") == ["1.png"]
    assert _names(program, "--class", "a") == ["2.png"]
    assert _names(program, "--class", "a,A") == ["3.png", "2.png"]
    assert _names(program, "--class", ",") == []


@pytest.mark.defects(38)
@pytest.mark.parametrize("name", ["x.xlsx", "x.csv.gz", "x.pdf", "x.\x1b[31m"])
def test_a_file_named_as_a_format_that_cannot_be_written_is_refused(
    filled: Store, program: Program, tmp_path: Path, name: str
) -> None:
    ran = program("results", "-o", str(tmp_path / name))

    assert (ran.code, ran.out) == (2, "")
    assert ".csv, .tsv, .parquet or .txt, or choose with --format" in ran.err
    assert ran.err.rstrip("\n").isprintable()
    assert not (tmp_path / name).exists()
    assert program("results", "-o", str(tmp_path / name), "--format", "csv").code == 0


@pytest.mark.defects(38)
@pytest.mark.parametrize(
    ("name", "start"),
    [("a.CSV", "id,"), ("a.ndjson", '{"id"'), ("a.txt", "id  "), ("plain", "id  "), ("a.jsonl", '{"id"')],
)
def test_a_files_name_decides_what_is_written(
    filled: Store, program: Program, tmp_path: Path, name: str, start: str
) -> None:
    assert program("results", "-o", str(tmp_path / name)).code == 0
    assert (tmp_path / name).read_text().startswith(start)


def test_a_reader_that_goes_away_is_no_error(store: Store) -> None:
    store.put([(b"%d.png" % number, judged()) for number in range(300)])
    line = f"{sys.executable} -m daemon.cli results --format jsonl --db {store.path}"

    ran = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line} | head -c 10"],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=False,
    )

    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_closed_stream_is_no_error(filled: Store, closed: str) -> None:
    line = f"{sys.executable} -m daemon.cli results --db {filled.path} {closed}"

    ran = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=REPOSITORY, check=False)

    assert ran.returncode == 0
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("command", ["results", "results --format json", "show 1", "errors"])
def test_output_is_utf_8_whatever_the_locale(store: Store, command: str) -> None:
    store.put([("Größe 脳.png".encode(), NOT_AN_IMAGE)])
    line = f"PYTHONIOENCODING=ascii {sys.executable} -m daemon.cli {command} --db {store.path}"

    ran = subprocess.run(["bash", "-c", line], capture_output=True, cwd=REPOSITORY, check=False)

    assert ran.returncode == 0
    assert "Größe 脳.png" in ran.stdout.decode()


@pytest.mark.slow
def test_a_full_disk_is_one_line(store: Store) -> None:
    store.put([(b"%d.png" % number, judged()) for number in range(100)])

    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "daemon.cli", "results", "--format", "csv", "--db", str(store.path)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            check=False,
        )

    assert (ran.returncode, ran.stderr) == (1, "bt-daemon: cannot write: No space left on device\n")


@pytest.mark.slow
def test_following_shows_the_latest_and_then_each_new_one(filled: Store) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "daemon.cli", "results", "--follow", "--format", "jsonl", "-n", "2",
         "--db", str(filled.path), "--columns", "path"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY,
    )  # fmt: skip
    guard = threading.Timer(20, process.kill)
    guard.start()
    try:
        assert process.stdout is not None
        first = [json.loads(process.stdout.readline())["path"] for _ in range(2)]
        filled.put([(b"new.png", judged()), (b"newer.png", judged())])
        then = [json.loads(process.stdout.readline())["path"] for _ in range(2)]
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate()
    finally:
        guard.cancel()
        guard.join()

    assert first == ["holiday.jpg", "letter.jpg"]
    assert then == ["new.png", "newer.png"]
    assert (process.returncode, rest, err) == (0, "", "")


@pytest.mark.databases("sqlite")
def test_following_waits_for_a_database_that_is_still_to_come(store: Store) -> None:
    from daemon.views.follow import batches
    from storage.database import open_reader
    from storage.query import Query

    waits = []

    def wait(_: float) -> None:
        waits.append(1)
        if len(waits) == 2:
            store.put([(b"first.png", judged())])
        if len(waits) == 4:
            store.put([(b"second.png", judged()), (b"third.png", judged("no"))])

    coming = batches(lambda: open_reader(store.path), Query(labels=("yes",)), wait)

    assert [row.path for row in next(coming)] == [b"first.png"]
    assert [row.path for row in next(coming)] == [b"second.png"]
    coming.close()  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.databases("sqlite")
def test_results_and_help_answer_quickly_and_import_nothing_slow(filled: Store) -> None:
    heavy = "{'torch', 'torchvision', 'openvino', 'rich', 'numpy', 'PIL', 'pyarrow', 'alembic'}"
    code = (
        "import sys; from daemon.cli import main; code = main(sys.argv[1:]);"
        f"print(sorted({heavy} & set(sys.modules)), code, 'sqlalchemy' in sys.modules, file=sys.stderr)"
    )

    def imported(*arguments: str) -> str:
        ran = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
            check=True,
        )
        return ran.stderr.splitlines()[-1]

    assert imported("results", "--db", str(filled.path)) == "[] 0 True"
    assert imported("results", "--format", "csv", "--db", str(filled.path)) == "[] 0 True"
    for name in ("results", "show", "errors", "retry", "status", "db", "config", "doctor"):
        assert imported(name, "--help") == "[] 0 False"


@pytest.mark.slow
@pytest.mark.databases("sqlite")
def test_a_question_takes_little_more_than_importing_what_it_stands_on(filled: Store) -> None:
    """Of processor time, the best of three, as a ratio in the same run: machines differ, and are busy."""
    libraries = [sys.executable, "-c", "import click, sqlalchemy.dialects.sqlite"]
    program = [sys.executable, "-m", "daemon.cli", "results"]

    peer = min(_processor_seconds(libraries) for _ in range(3))
    question = min(_processor_seconds([*program, "--db", str(filled.path)]) for _ in range(3))
    words = min(_processor_seconds([*program, "--help"]) for _ in range(3))

    assert question < 3 * peer
    assert words < 1.2 * peer


def _processor_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_a_model_that_judged_the_same_file_again_has_a_row_of_its_own(
    filled: Store, program: Program
) -> None:
    newer = replace(MODEL, weights_sha256="ffff0000" * 8, version="2.0")
    filled.put([(b"new.png", judged())], model=newer)

    assert _names(program, "--model", "ffff") == ["new.png"]
    assert (
        json.loads(program("results", "--format", "json", "-n", "1").out)[0]["model"]
        == "brain-mri 2.0 ffff0000"
    )


@pytest.mark.slow
def test_exporting_needs_constant_memory(store: Store, tmp_path: Path) -> None:
    """From ten thousand to a hundred thousand rows only SQLite's page cache (32 MB) may grow."""
    many = [(b"%d.png" % number, judged()) for number in range(1000)]
    peaks = []
    code = (
        "import resource, sys; from daemon.cli import main; main(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    store.put(many)
    for copies in (10, 10):
        _multiply(store.path, copies)
        ran = subprocess.run(
            [sys.executable, "-c", code, "-q", "results", "--format", "json", "--db", str(store.path)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY, check=True,
        )  # fmt: skip
        peaks.append(int(ran.stderr.split()[-1]))

    assert peaks[1] - peaks[0] < 40_000  # KiB; the rows themselves would be 200 MB


def _multiply(database: Target, copies: int) -> None:
    """Make `copies` rows of each result by plain SQL: the ledger would take minutes."""
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {copies - 1})"
    for table in (file, result):
        [(highest,)] = raw(database, f"SELECT max(id) FROM {table}")
        ending = f"'-{highest}-' || n.i"
        new = {
            "id": f"id + n.i * {highest}",
            "name": f"name || convert_to({ending}, 'UTF8')" if is_server(database)
            else f"CAST(name || {ending} AS BLOB)",
            "file_id": f"file_id + n.i * {highest}",
        }  # fmt: skip
        columns = table.columns.keys()
        values = [new.get(name, name) for name in columns]
        into = f"{table} ({', '.join(columns)}) {numbers}"
        raw(database, f"INSERT INTO {into} SELECT {', '.join(values)} FROM {table}, n")
