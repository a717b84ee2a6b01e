"""Where a setting's value comes from, and what happens to one that cannot be meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.errors import UsageError
from config.settings import resolve


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
