"""`bt-daemon config` says which value each setting has and where it came from."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from config.settings import declarations
from daemon.cli import main
from tests.support.daemons import bt_daemon


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _lines(capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}


def test_show_tells_every_setting_with_its_source(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bt.toml").write_text('rescan = "90s"\nmax_bytes = "1GiB"\n')
    monkeypatch.setenv("BT_SETTLE", "500ms")

    code = main(["config", "show", "--db", "x.db"])

    lines = _lines(capsys)
    assert code == 0
    assert lines["db"] == ["x.db", "flag"]
    assert lines["settle"] == ["0.5s", "environment", "BT_SETTLE"]
    assert lines["rescan"] == ["90s", "bt.toml"]
    assert lines["max_bytes"] == ["1GiB", "bt.toml"]
    assert lines["batch"] == ["8", "default"]
    assert set(declarations()) <= set(lines)


def test_show_as_json_holds_values_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--db", "x.db", "config", "show", "--json"])

    found = json.loads(capsys.readouterr().out)
    assert found["db"] == {"value": "x.db", "source": "flag", "help": "database file or URL"}
    assert found["settle"]["value"] == 2.0
    assert found["include"]["value"] == []
    assert set(found) == set(declarations())


def test_a_password_in_a_database_url_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    for form in ([], ["--json"]):
        main(["config", "show", "--db", "postgresql://me:secret@host/db", *form])

        out = capsys.readouterr().out
        assert "secret" not in out
        assert "postgresql://me:***@host/db" in out


def test_path_names_the_file_in_use_or_where_it_would_be(
    capsys: pytest.CaptureFixture[str], own_user_folders: Path
) -> None:
    main(["config", "path"])
    assert capsys.readouterr().out == f"{own_user_folders}/config/bt-daemon/bt.toml\n"

    Path("bt.toml").write_text("")
    main(["config", "path"])

    assert capsys.readouterr().out == f"{Path('bt.toml').absolute()}\n"


def test_a_misspelt_key_ends_with_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bt.toml").write_text("setle = 3\n")

    code = main(["config", "show"])

    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err == "bt-daemon: bt.toml has no setting 'setle'; did you mean settle?\n"


def test_check_names_every_fault_with_where_it_came_from(tmp_path: Path) -> None:
    config = tmp_path / "bt.toml"
    config.write_text('settel = "2s"\nlanes = "many"\n')
    wrong = bt_daemon("config", "check", "--config", config, env={**os.environ, "BT_RESCAN": "soon"})
    config.write_text('settle = "2s"\n')
    right = bt_daemon("config", "check", "--config", config)

    assert wrong.returncode == 2
    lines = wrong.stdout.splitlines()
    assert len(lines) == 3
    assert "did you mean settle?" in lines[0]
    assert f"lanes in {config}" in lines[1]
    assert "environment BT_RESCAN" in lines[2]
    assert right.returncode == 0
    assert right.stdout.startswith("ok: ")
