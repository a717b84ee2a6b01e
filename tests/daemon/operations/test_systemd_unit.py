"""The unit that `service install` writes: systemd takes it, and it is well sandboxed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from daemon.operations.systemd_unit import UnitPlan, unit_text
from tests.support.daemons import bt_daemon
from tests.support.stored_results import Program

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


@pytest.fixture
def program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Program:
    (tmp_path / "inbox of %h").mkdir()
    return Program(tmp_path / "data" / "results.db", capsys)


def install(program: Program, *options: str) -> str:
    inbox = program.file.parent.parent / "inbox of %h"
    ran = program("service", "install", str(inbox), "--print", *options)
    assert ran.code == 0, ran.err
    return ran.out


def test_unit_names_the_daemon_its_folders_and_what_it_may_write(program: Program) -> None:
    text = install(program, "--run-as", "mri", "--heatmaps", "maps")

    assert "Type=notify" in text
    assert "User=mri" in text
    assert f"{program.file.parent}" in text.split("ReadWritePaths=")[1].splitlines()[0]
    assert f"{Path('maps').absolute()}" in text.split("ReadWritePaths=")[1].splitlines()[0]
    assert "inbox of %%h" in text.split("ExecStart=")[1].splitlines()[0]
    assert "inbox" not in text.split("ReadWritePaths=")[1].splitlines()[0]


def test_machines_unit_has_folders_of_its_own_unless_others_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BT_CACHE")
    (tmp_path / "inbox").mkdir()

    texts = [
        bt_daemon("service", "install", tmp_path / "inbox", "--print", *options).stdout
        for options in (("--run-as", "mri", "--name", "heads"), ("--user",))
    ]

    assert "StateDirectory=heads\n" in texts[0]
    assert "--db /var/lib/heads/results.db --cache /var/cache/heads" in texts[0]
    assert "StateDirectory" not in texts[1]
    assert "/var/lib" not in texts[1]


def test_inbox_is_writable_where_files_are_moved_out_of_it(program: Program) -> None:
    text = install(program, "--on-done", "move", "--done-dir", "done")

    assert "inbox of %%h" in text.split("ReadWritePaths=")[1].splitlines()[0]
    assert "--on-done move" in text


def test_unit_of_a_user_has_no_user_of_its_own(program: Program) -> None:
    text = install(program, "--user")

    assert "User=" not in text
    assert "WantedBy=default.target" in text


def test_gpu_is_let_in_where_it_computes(program: Program) -> None:
    assert "PrivateDevices=no" in install(program, "--device", "cuda")


def test_environment_that_a_unit_would_not_have_is_refused(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BT_SETTLE", "5s")

    ran = program("service", "install", str(program.file.parent.parent), "--print")

    assert ran.code == 2
    assert "BT_SETTLE" in ran.err


def test_unit_is_written_where_nobody_is_asked_only_with_yes(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    place = tmp_path / "config" / "systemd" / "user" / "bt-daemon.service"
    inbox = str(tmp_path / "inbox of %h")

    refused = program("service", "install", inbox, "--user")
    written = program("service", "install", inbox, "--user", "--yes")

    assert refused.code == 2
    assert written.code == 0, written.err
    assert "Type=notify" in place.read_text()
    removed = program("service", "uninstall", "--user", "--yes")
    assert removed.code == 0, removed.err
    assert not place.exists()
    assert program("service", "uninstall", "--user", "--yes").code == 2


@needs_systemd
def test_systemd_takes_the_unit(program: Program, tmp_path: Path) -> None:
    for options in (("--run-as", "root"), ("--user",)):
        place = tmp_path / "bt-daemon.service"
        place.write_text(install(program, *options))
        which = ["systemd-analyze", "verify", *(["--user"] if "--user" in options else []), str(place)]
        done = subprocess.run(which, capture_output=True, text=True, check=False)
        assert "bt-daemon.service" not in done.stderr, done.stderr


@needs_systemd
def test_exposure_is_below_three(program: Program, tmp_path: Path) -> None:
    place = tmp_path / "bt-daemon.service"
    place.write_text(install(program, "--run-as", "mri"))

    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=30", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_words_are_quoted_as_systemd_reads_them() -> None:
    plan = UnitPlan(("/bin/x", 'a"b', "c d", "$HOME", "100%"), (Path("/in"),), (Path("/out"),), "mri")

    line = next(line for line in unit_text(plan).splitlines() if line.startswith("ExecStart="))

    assert line == r'''ExecStart=/bin/x "a\"b" "c d" "$$HOME" "100%%"'''


@pytest.mark.parametrize("setting", ['notify = ["https://example.org/x"]', 'ping = "https://example.org/x"'])
def test_network_is_let_in_where_somebody_is_told(program: Program, tmp_path: Path, setting: str) -> None:
    config = tmp_path / "bt.toml"
    config.write_text(setting)

    text = install(program, "--config", str(config))

    assert "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6" in text
    assert "PrivateNetwork" not in text
    assert "IPAddressDeny" not in text
    assert "example.org" not in text
    assert "PrivateNetwork=yes" in install(program)
