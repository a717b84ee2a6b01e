"""The model that judged a row is kept beside the database, and found again by its hash."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.cli import main
from daemon.model_store import find_model, forget_models, keep_model, kept_models, models_folder
from tests.support.daemons import count
from tests.support.models import own_model
from tests.support.stored_results import MODEL, Program, Store, judged
from trainer.images.phantom import phantom
from trainer.model.identity import default_weights, weights_sha256

LOGGER = logging.getLogger("test.models")
DEFAULT = default_weights()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return Path(shutil.copyfile(DEFAULT, tmp_path / "my weights.safetensors"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "results.db", tmp_path / "inbox")
    store.put([(b"1.png", judged())])
    return store


@pytest.fixture
def program(store: Store, capsys: pytest.CaptureFixture[str]) -> Program:
    return Program(store.path, capsys)


@pytest.mark.defects(29)
def test_a_kept_model_is_whole_private_and_found_when_its_file_is_gone(tmp_path: Path, weights: Path) -> None:
    sha256, database = weights_sha256(weights), tmp_path / "r.db"

    keep_model(weights, sha256, database, LOGGER)
    weights.unlink()
    found = find_model(sha256, database, given=None)

    assert found == models_folder(database) / f"{sha256}.safetensors"
    assert hashlib.sha256(found.read_bytes()).hexdigest() == sha256
    assert stat.S_IMODE(found.stat().st_mode) == 0o600
    assert stat.S_IMODE(found.parent.stat().st_mode) == 0o700


def test_a_model_is_copied_once_and_a_damaged_copy_is_made_again(tmp_path: Path, weights: Path) -> None:
    sha256, database = weights_sha256(weights), tmp_path / "r.db"
    keep_model(weights, sha256, database, LOGGER)
    kept = models_folder(database) / f"{sha256}.safetensors"
    first = kept.stat().st_ino

    keep_model(weights, sha256, database, LOGGER)
    second = kept.stat().st_ino
    data = bytearray(kept.read_bytes())
    data[-1] ^= 1
    kept.write_bytes(data)
    keep_model(weights, sha256, database, LOGGER)

    assert first == second
    assert weights_sha256(kept) == sha256


@pytest.mark.defects(29)
def test_only_a_file_with_that_very_hash_is_the_model(tmp_path: Path, weights: Path) -> None:
    database = tmp_path / "r.db"
    models_folder(database).mkdir()
    shutil.copyfile(DEFAULT, models_folder(database) / f"{'0' * 64}.safetensors")

    assert find_model("0" * 64, database, given=weights) is None
    assert find_model(weights_sha256(DEFAULT), database, given=None) == DEFAULT
    assert find_model(weights_sha256(DEFAULT), database, given=weights) == weights


def test_weights_that_change_while_they_are_copied_are_not_kept(
    tmp_path: Path, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep_model(weights, "1" * 64, tmp_path / "r.db", LOGGER)

    assert "has changed since it was opened" in caplog.text
    assert len(caplog.records) == 1
    assert list(models_folder(tmp_path / "r.db").iterdir()) == []


def test_a_full_disk_costs_one_warning_and_no_judgement(
    tmp_path: Path, weights: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))

    keep_model(weights, weights_sha256(weights), tmp_path / "r.db", LOGGER)

    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No space left on device" in caplog.text
    assert not models_folder(tmp_path / "r.db").exists()


def test_what_no_row_names_is_forgotten_with_what_a_crash_left(tmp_path: Path, weights: Path) -> None:
    database, sha256 = tmp_path / "r.db", weights_sha256(weights)
    keep_model(weights, sha256, database, LOGGER)
    (models_folder(database) / f"{'2' * 64}.safetensors").write_text("old")
    (models_folder(database) / ".half.tmp").write_text("half")

    assert forget_models(database, {sha256}) == 1
    assert kept_models(database) == [sha256]
    assert len(os.listdir(models_folder(database))) == 1
    assert forget_models(database, set()) == 1
    assert not models_folder(database).exists()


@pytest.mark.defects(29)
def test_pruning_removes_the_models_of_pruned_rows_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "results.db", tmp_path / "inbox")
    store.put([(b"old.png", judged())], model=replace(MODEL, weights_sha256="a" * 64))
    store.clock.advance(3600)
    store.put([(b"new.png", judged())], model=replace(MODEL, weights_sha256="b" * 64))
    models_folder(store.file).mkdir()
    for letter in "ab":
        (models_folder(store.file) / f"{letter * 64}.safetensors").write_text(letter)

    ran = Program(store.path, capsys)("db", "prune", "--before", "2026-11-24T08:30:00Z", "--yes")

    assert ran.out.startswith("deleted 1 results")
    assert "1 model that no row names" in ran.out
    assert kept_models(store.file) == ["b" * 64]


@pytest.mark.slow
@pytest.mark.defects(29)
def test_a_daemon_and_classify_keep_what_they_judged_with(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    phantom(1, lesion=True).save(inbox / "slice.png")
    phantom(2, lesion=True).save(tmp_path / "other.png")
    own = own_model(tmp_path / "own.safetensors")
    database, mine = inbox / "x.db", ["--weights", str(own), "--precision", "fp32"]

    assert main(["watch", str(inbox), "--once", "--settle", "0s", "--db", str(database), "-q"]) == 0
    assert main(["classify", str(tmp_path / "other.png"), "--save", "--db", str(database), *mine]) == 0
    again = main(["watch", str(inbox), "--once", "--settle", "0s", "--db", str(database), "-q"])

    assert again == 0
    assert kept_models(database) == sorted([weights_sha256(DEFAULT), weights_sha256(own)])
    assert count(database) == 2  # the kept weights lie in the inbox, and are no images


def test_a_backup_takes_the_models_along_and_a_restore_brings_them_back(
    store: Store, program: Program, tmp_path: Path, weights: Path
) -> None:
    sha256, backup = weights_sha256(weights), tmp_path / "elsewhere" / "backup.db"
    backup.parent.mkdir()
    keep_model(weights, sha256, store.file, LOGGER)
    without = program("db", "backup", str(tmp_path / "none.db"), "--db", str(backup.parent / "missing.db"))

    saved = program("db", "backup", str(backup))
    shutil.rmtree(models_folder(store.file))
    restored = program("db", "restore", str(backup))

    assert without.code == 3
    assert saved.out.endswith(", 1 model in backup.db-models/\n")
    assert restored.out.endswith(f", 1 model in {store.file.name}-models/\n")
    assert kept_models(store.file) == kept_models(backup) == [sha256]
    copy = models_folder(backup) / f"{sha256}.safetensors"
    assert copy.read_bytes() == weights.read_bytes()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


def test_a_damaged_model_is_no_part_of_a_backup_which_says_so(
    store: Store, program: Program, tmp_path: Path, weights: Path
) -> None:
    sha256, backup = weights_sha256(weights), tmp_path / "backup.db"
    keep_model(weights, sha256, store.file, LOGGER)
    kept = models_folder(store.file) / f"{sha256}.safetensors"
    data = bytearray(kept.read_bytes())
    data[-1] ^= 1
    kept.write_bytes(data)

    ran = program("db", "backup", str(backup))

    assert ran.code == 1
    assert ran.err.count("\n") == 1
    assert f"copy {models_folder(store.file)}/ yourself" in ran.err
    assert kept_models(backup) == []
    assert program("results", "--count", "--db", str(backup)).code == 0
