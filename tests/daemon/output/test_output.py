"""How rows become tables, JSON, CSV, TSV and Parquet, whatever their file names are made of."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import unicodedata
from dataclasses import dataclass
from datetime import UTC, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from config.errors import BtError, UsageError
from daemon.output.cells import ago, clock_time, confidence_text, iso_time, size_text, spreadsheet_text
from daemon.output.columns import Column, Kind, chosen_columns
from daemon.output.delimited import write_delimited
from daemon.output.json_text import json_text, write_json, write_json_lines
from daemon.output.plain_table import write_plain_table
from daemon.output.sink import binary_sink, text_sink
from daemon.output.terminal_table import TableStyle, Terminal, print_terminal_table, shorten_left
from tests.support.hostile_names import HOSTILE_NAMES

BERLIN_WINTER = timezone(timedelta(hours=1))


@dataclass(frozen=True)
class Row:
    id: int = 1
    time_us: int | None = 1_767_225_600_123_456
    file: bytes = b"/inbox/a.png"
    label: str | None = "tumour"
    confidence: float | None = 0.98765432
    status: str = "ok"
    reason: str | None = None
    tags: dict[str, str] | None = None


COLUMNS = [
    Column("id", Kind.INTEGER, lambda row: row.id),
    Column("time", Kind.TIME, lambda row: row.time_us),
    Column("file", Kind.NAME, lambda row: row.file),
    Column("class", Kind.TEXT, lambda row: row.label),
    Column("confidence", Kind.CONFIDENCE, lambda row: row.confidence),
    Column("status", Kind.TEXT, lambda row: row.status),
    Column("reason", Kind.TEXT, lambda row: row.reason),
    Column("tags", Kind.MAPPING, lambda row: row.tags),
]
KNOWN = {column.name: column for column in COLUMNS}
LOOK = TableStyle(note=lambda row: row.reason, style=lambda row: "red", brief=lambda column, text: text)
HOSTILE_ROWS = [Row(id=number, file=b"/inbox/" + name) for number, name in enumerate(HOSTILE_NAMES)]
HOSTILE_TEXT = "=1+1\x1b[31m\u202e\n<b>"


def _written(write: Any, rows: list[Row], columns: list[Column] = COLUMNS, **options: Any) -> str:
    stream = io.StringIO()
    write(iter(rows), columns, BERLIN_WINTER, stream, **options)
    return stream.getvalue()


def _page(rows: list[Row], width: int, columns: list[Column] = COLUMNS, *, color: bool = False) -> str:
    stream = io.StringIO()
    print_terminal_table(rows, columns, BERLIN_WINTER, Terminal(stream, width, color), look=LOOK)
    return stream.getvalue()


def _unsafe(text: str) -> set[str]:
    """The characters of `text`, line ends aside, that could drive a terminal or reorder what is read."""
    return {
        char for char in text if char != "\n" and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    }


def test_json_is_one_array_that_holds_each_value_and_round_trips_every_name() -> None:
    found = json.loads(_written(write_json, HOSTILE_ROWS))

    assert [os.fsencode(row["file"]) for row in found] == [row.file for row in HOSTILE_ROWS]
    by_hex = [bytes.fromhex(row["file_bytes_hex"]) for row in found if "file_bytes_hex" in row]
    assert len(by_hex) > 50
    assert by_hex == [row.file for row in HOSTILE_ROWS if not _is_utf8(row.file)]
    assert found[0] == {
        "id": 0,
        "time": "2026-01-01T01:00:00.123456+01:00",
        "file": "/inbox/plain.png",
        "class": "tumour",
        "confidence": 0.987654,
        "status": "ok",
        "reason": None,
        "tags": None,
    }


def test_json_lines_hold_one_object_each() -> None:
    lines = _written(write_json_lines, HOSTILE_ROWS).splitlines()

    assert [os.fsencode(json.loads(line)["file"]) for line in lines] == [row.file for row in HOSTILE_ROWS]


def test_no_rows_are_an_empty_array_and_a_header() -> None:
    assert _written(write_json, []) == "[]\n"
    assert _written(write_json_lines, []) == ""
    assert _written(write_delimited, [], COLUMNS[:2]) == "id,time\n"
    assert _written(write_plain_table, [], COLUMNS[:2]) == "id  time\n"


@pytest.mark.parametrize("write", [write_json, write_json_lines, write_delimited, write_plain_table])
def test_no_output_holds_a_character_that_drives_a_terminal(write: Any) -> None:
    rows = [*HOSTILE_ROWS, Row(label=HOSTILE_TEXT, reason=HOSTILE_TEXT, tags={HOSTILE_TEXT: HOSTILE_TEXT})]

    assert _unsafe(_written(write, rows)) == set()


def test_readable_letters_stay_readable_in_json() -> None:
    assert json_text({"file": "Größe 脳 🧠"}) == '{"file": "Größe 脳 🧠"}'
    assert json.loads(json_text("a\u202e\U000e0041\x9b")) == "a\u202e\U000e0041\x9b"


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_csv_and_tsv_have_one_record_a_row_and_no_formula(delimiter: str) -> None:
    rows = [*HOSTILE_ROWS, *(Row(file=name, label="=1+1", reason="@x") for name in HOSTILE_NAMES)]

    records = list(
        csv.reader(io.StringIO(_written(write_delimited, rows, delimiter=delimiter)), delimiter=delimiter)
    )

    assert len(records) == len(rows) + 1
    assert {len(record) for record in records} == {len(COLUMNS)}
    assert not [
        cell for record in records for cell in record if cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    ]
    assert records[-1][3] == "'=1+1"


def test_a_plain_table_has_one_whole_line_a_row_and_no_decoration() -> None:
    rows = [Row(id=number, file=b"/inbox/" + b"x" * number) for number in range(1200)]

    lines = _written(write_plain_table, rows, COLUMNS[:6]).splitlines()

    assert len(lines) == 1201
    assert lines[0].split() == ["id", "time", "file", "class", "confidence", "status"]
    assert "x" * 1199 in lines[-1]
    assert lines[1].split() == ["0", "2026-01-01", "01:00:00+01:00", "/inbox/", "tumour", "0.987", "ok"]


@pytest.mark.slow
@pytest.mark.parametrize("width", [60, 80, 100, 140, 220])
def test_a_terminal_table_fits_the_width(width: int) -> None:
    rows = [
        *HOSTILE_ROWS,
        Row(file=b"/inbox/sub/broken.jpg", reason="not an image: " + "text " * 30, label=None),
    ]

    page = _page(rows, width, COLUMNS[:6])

    assert max(_cells(line) for line in page.splitlines()) <= width
    assert _unsafe(page) == set()
    assert "not an image" in page


def test_a_terminal_table_names_the_shared_folder_once_and_the_files_below_it() -> None:
    page = _page([Row(file=b"/data/inbox/a/1.png"), Row(file=b"/data/inbox/b/2.png")], 100)

    assert page.splitlines()[0] == "in /data/inbox/"
    assert "a/1.png" in page
    assert page.count("/data/inbox") == 1


def test_a_terminal_table_shows_the_offset_once_when_all_times_share_it() -> None:
    page = _page([Row(), Row(id=2)], 120)

    assert "time +01:00" in page
    assert page.count("+01:00") == 1


def test_colours_are_left_out_when_they_are_not_wanted() -> None:
    assert "\x1b[" not in _page([Row()], 100, color=False)


def test_a_long_name_loses_its_beginning_not_its_end() -> None:
    assert shorten_left("series/IM-0001-0042.dcm", 12) == "…01-0042.dcm"
    assert shorten_left("short", 12) == "short"
    assert _cells(shorten_left("脳" * 20, 9)) <= 9


def test_markup_in_a_name_is_shown_not_obeyed() -> None:
    page = _page([Row(file=b"/in/[bold]x[-bold] :smile:.png")], 120)

    assert "[bold]x[-bold] :smile:.png" in page


def test_parquet_holds_the_same_rows_with_the_bytes_of_the_names(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    from daemon.output.parquet import write_parquet

    rows = [*HOSTILE_ROWS, Row(confidence=None, label=None, tags={"a": "b"})]
    with binary_sink(tmp_path / "x.parquet") as stream:
        count = write_parquet(iter(rows), COLUMNS, stream)

    table = parquet.read_table(tmp_path / "x.parquet").to_pylist()
    assert count == len(table) == len(rows)
    assert [row["file_bytes"] for row in table] == [row.file for row in rows]
    assert table[0]["time"].astimezone(UTC).isoformat() == "2026-01-01T00:00:00.123456+00:00"
    assert table[-1]["confidence"] is None
    assert table[-1]["tags"] == '{"a": "b"}'


def test_a_confidence_is_never_shown_as_more_than_it_is() -> None:
    assert [confidence_text(value) for value in (0.29, 0.9996, 1.0, 0.5, 0.0)] == [
        "0.290",
        "0.999",
        "1.000",
        "0.500",
        "0.000",
    ]


def test_times_are_exact_and_carry_their_offset() -> None:
    assert iso_time(1_767_225_600_000_001, UTC) == "2026-01-01T00:00:00.000001+00:00"
    assert clock_time(1_767_225_600_999_999, BERLIN_WINTER) == "2026-01-01 01:00:00+01:00"
    assert iso_time(-1, UTC) == "1969-12-31T23:59:59.999999+00:00"


def test_lengths_and_sizes_are_told_in_words_of_their_order() -> None:
    assert [ago(seconds) for seconds in (0.25, 42, 600, 9000, 864_000)] == [
        "250 ms",
        "42 s",
        "10 min",
        "2.5 h",
        "10 d",
    ]
    assert [size_text(count) for count in (812, 35_328, 1 << 40)] == ["812 B", "34.5 KiB", "1.0 TiB"]


def test_a_text_that_begins_a_formula_gets_a_quote() -> None:
    assert spreadsheet_text("=1+1") == "'=1+1"
    assert spreadsheet_text("\tx") == "'\\x09x"
    assert spreadsheet_text("plain") == "plain"


def test_columns_are_chosen_by_name_in_the_order_given() -> None:
    chosen = chosen_columns("file, id,tags.StudyInstanceUID,id", KNOWN, ["id"])

    assert [column.name for column in chosen] == ["file", "id", "tags.StudyInstanceUID"]
    assert chosen[2].read(Row(tags={"StudyInstanceUID": "1.2"})) == "1.2"
    assert chosen[2].read(Row()) is None
    assert chosen_columns("all", KNOWN, ["id"]) == COLUMNS


def test_a_misspelt_column_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match="did you mean confidence"):
        chosen_columns("confidense", KNOWN, ["id"])
    with pytest.raises(UsageError, match="names no column"):
        chosen_columns(" , ", KNOWN, ["id"])


def test_a_file_appears_whole_readable_by_its_owner_only_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("old")

    with pytest.raises(ZeroDivisionError), text_sink(path) as stream:
        stream.write("half" * (1 // 0))
    assert path.read_text() == "old"
    with text_sink(path) as stream:
        stream.write("Größe\n")

    assert path.read_text("utf-8") == "Größe\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["out.csv"]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BtError, match=r"cannot write .*No such file"), text_sink(tmp_path / "missing" / "x"):
        pass
    with (
        pytest.raises(BtError, match="cannot write /dev/full: No space left"),
        text_sink(Path("/dev/full")) as stream,
    ):
        stream.write("x" * 100_000)


def _is_utf8(name: bytes) -> bool:
    return os.fsdecode(name).isascii() or not any("\udc80" <= char <= "\udcff" for char in os.fsdecode(name))


def _cells(line: str) -> int:
    from rich.cells import cell_len

    return cell_len(line)
