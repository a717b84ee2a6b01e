"""Where a setting's value comes from, and what happens to one that cannot be meant."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import MISSING
from pathlib import Path

import pytest

from config import parse
from config.errors import UsageError
from config.settings import declarations, resolve
from tests.conftest import REPOSITORY


def test_a_flag_wins_over_environment_file_and_default(tmp_path: Path) -> None:
    file = tmp_path / "bt.toml"
    file.write_text('settle = "3s"\nbatch = 8\nrescan = "90s"\n')

    found = resolve({"settle": "1s"}, {"BT_SETTLE": "2s", "BT_BATCH": "16"}, file)

    assert found.settings.settle_seconds == 1.0
    assert found.settings.batch == 16
    assert found.settings.rescan_seconds == 90.0
    assert found.settings.poll is False
    assert found.sources["settle"] == "flag"
    assert found.sources["batch"] == "environment BT_BATCH"
    assert found.sources["rescan"] == str(file)
    assert found.sources["poll"] == "default"


def test_the_file_in_the_working_folder_is_used_without_being_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bt.toml").write_text('done-dir = "judged"\ninclude = ["*.png", "*.jpg"]\n')

    settings = resolve({}, {}).settings

    assert settings.done_dir == "judged"
    assert settings.include == ("*.png", "*.jpg")


def test_a_misspelt_key_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    file = tmp_path / "bt.toml"
    file.write_text('setle = "3s"\n')

    with pytest.raises(UsageError, match="did you mean settle"):
        resolve({}, {}, file)


def test_a_misspelt_environment_variable_is_refused_but_anothers_is_not() -> None:
    assert resolve({}, {"BT_SOMETHING_ELSE_ENTIRELY": "1"}).settings.batch == 8

    with pytest.raises(UsageError, match="did you mean BT_DEVICE"):
        resolve({}, {"BT_DEVICES": "cpu"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("settle", "soon"),
        ("settle", "-1s"),
        ("batch", "many"),
        ("batch", "-3"),
        ("poll", "perhaps"),
        ("precision", "fp64"),
        ("max_bytes", "3 elephants"),
        ("on_done", "delete"),
    ],
)
def test_a_value_that_cannot_be_meant_is_one_line_that_names_the_setting(key: str, value: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve({key: value}, {})

    assert str(caught.value).startswith(f"--{key.replace('_', '-')}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_and_a_broken_configuration_file_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "bt.toml"
    broken.write_text("settle = \n")

    with pytest.raises(UsageError, match="no configuration file"):
        resolve({}, {}, tmp_path / "missing.toml")
    with pytest.raises(UsageError, match="is not TOML"):
        resolve({}, {}, broken)


SEVERAL = [
    ("tags", "StudyInstanceUID, EchoTime", ("StudyInstanceUID", "EchoTime")),
    ("include", "*.png,*.jpg", ("*.png", "*.jpg")),
    ("exclude", "a, b/**", ("a", "b/**")),
]


@pytest.mark.defects(28)
@pytest.mark.parametrize(("key", "commas", "values"), SEVERAL)
def test_several_values_take_commas_and_repetition_from_every_source(
    tmp_path: Path, key: str, commas: str, values: tuple[str, ...]
) -> None:
    file = tmp_path / "bt.toml"
    first, second = commas.split(",")
    repeated = (first, f"{second},,{second}")

    file.write_text(f'{key} = "{commas}"\n')
    text = resolve({}, {}, file)
    file.write_text(f'{key} = ["{repeated[0]}", "{repeated[1]}"]\n')
    array = resolve({}, {}, file)
    variable = resolve({}, {f"BT_{key.upper()}": commas})
    flags = [resolve({key: given}, {}) for given in ((commas,), repeated)]

    for found in (text, array, variable, *flags):
        assert getattr(found.settings, key) == values


@pytest.mark.defects(28)
@pytest.mark.parametrize(
    ("glob", "values"),
    [
        ("one[,]two.png,*.jpg", ("one[,]two.png", "*.jpg")),
        ("[!a,b]*.png", ("[!a,b]*.png",)),
        ("*.{png,jpg},x", ("*.png", "x", "*.jpg")),
        ("{a,b{c,d}}.png", ("a.png", "bc.png", "bd.png")),
        ("odd{name.png,[x", ("odd{name.png", "[x")),
        (",", ()),
    ],
)
def test_a_glob_may_hold_a_comma_in_brackets_and_alternatives_in_braces(
    glob: str, values: tuple[str, ...]
) -> None:
    assert resolve({"include": (glob,)}, {}).settings.include == values


@pytest.mark.defects(28)
@pytest.mark.parametrize("name", ["StudyInstanceUD", "studyinstanceuid", "Study Instance UID", "(0020000D)"])
def test_a_misspelt_dicom_keyword_is_refused_with_a_suggestion(name: str) -> None:
    with pytest.raises(UsageError, match=r"^--tags: .*did you mean StudyInstanceUID\?"):
        resolve({"tags": (f"EchoTime,{name}",)}, {})


@pytest.mark.defects(28)
@pytest.mark.parametrize("name", ["TransferSyntaxUID", "qqqqq", "\x1b[31m"])
def test_what_is_no_element_of_an_image_is_refused_too(name: str) -> None:
    with pytest.raises(UsageError, match="is no keyword of a DICOM data set") as caught:
        resolve({}, {"BT_TAGS": name})

    assert str(caught.value).isprintable()


@pytest.mark.defects(28)
def test_every_keyword_that_pydicom_reads_is_taken_without_importing_it() -> None:
    code = (
        "import sys; from config.settings import resolve; resolve({'tags': ('EchoTime',)}, {});"
        "assert 'pydicom' not in sys.modules; from pydicom.datadict import tag_for_keyword as tag;"
        "from config.dicom_keywords import _names; assert all(tag(word) == n for n, word in _names().items())"
    )

    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


def test_a_nul_character_in_a_setting_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bt.toml"
    file.write_text('db = "a\\u0000b"\n')

    with pytest.raises(UsageError, match="NUL"):
        resolve({}, {}, file)


def test_a_default_is_written_so_that_it_can_be_read_again() -> None:
    for declared in declarations().values():
        read = declared.metadata["parse"]
        if declared.default is not MISSING and read not in (parse.switch, *parse.SEVERAL):
            assert read(parse.written(declared.default, read)) == declared.default
