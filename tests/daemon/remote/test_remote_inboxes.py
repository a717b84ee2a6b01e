"""Workers on what is no plain folder, or not the shipped model: object stores, ONNX networks, heatmaps."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from PIL import Image

from daemon.remote.root_proof import RootProbe, prove_root
from tests.support.daemons import bt_daemon, count, rows, running
from tests.support.object_store import missing_package, object_server, picture_bytes
from tests.support.onnx_files import colour_network, description
from tests.support.remote_workers import draw_images, free_port, remote_worker


@pytest.mark.slow
@pytest.mark.skipif(bool(missing_package()), reason="needs a server of S3")
def test_workers_read_the_objects_of_a_bucket_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, database = f"tcp://127.0.0.1:{free_port()}", tmp_path / "results.db"
    with object_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        server.client().create_bucket(Bucket="mri")
        for number in range(12):
            server.client().put_object(Bucket="mri", Key=f"in/{number}.png", Body=picture_bytes(number))
        arguments = ("s3://mri/in", "--workers", head, "--lanes", "none", "--once")
        with running(*arguments, database=database, watching=False) as daemon:
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
            with remote_worker(head, log=tmp_path / "blind.log") as blind:
                refused = blind.wait()
            monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
            with remote_worker(head, log=tmp_path / "worker.log"):
                code = daemon.process.wait(90)

    assert refused == 6
    assert "s3://mri/in cannot be read there (the object store" in blind.said
    assert code == 0
    assert count(database) == 12
    assert all(row["status"] != "error" for row in rows(database))


@pytest.mark.slow
def test_an_onnx_network_goes_to_workers_with_what_is_said_of_it(tmp_path: Path) -> None:
    photos, head = tmp_path / "photos", f"tcp://127.0.0.1:{free_port()}"
    photos.mkdir()
    for name, colour in {"red": (200, 20, 10), "green": (30, 180, 40), "blue": (0, 60, 255)}.items():
        Image.new("RGB", (40, 30), colour).save(photos / f"{name}.png")
    (tmp_path / "net.onnx").write_bytes(colour_network())
    told = description(tmp_path / "net.toml")
    given = ("--weights", tmp_path / "net.onnx", "--spec", told)
    ours, theirs = tmp_path / "ours.db", tmp_path / "theirs.db"

    done = bt_daemon("watch", photos, "--once", "--db", ours, *given)
    arguments = (photos, "--workers", head, "--lanes", "none", "--once", *given)
    with (
        running(*arguments, database=theirs, watching=False) as daemon,
        remote_worker(head, "--cache", tmp_path / "cache", log=tmp_path / "worker.log"),
    ):
        code = daemon.process.wait(90)

    assert (done.returncode, code) == (0, 0)
    assert [_said(row) for row in rows(theirs)] == [_said(row) for row in rows(ours)]
    assert len(rows(ours)) == 3


@pytest.mark.slow
def test_heatmaps_are_drawn_by_workers_into_the_daemons_folder(tmp_path: Path) -> None:
    inbox, maps = draw_images(tmp_path / "inbox", 4), tmp_path / "maps"
    head, database = f"tcp://127.0.0.1:{free_port()}", tmp_path / "results.db"
    arguments = (inbox, "--workers", head, "--lanes", "none", "--once", "--heatmaps", maps)
    with (
        running(*arguments, database=database, watching=False) as daemon,
        remote_worker(head, log=tmp_path / "worker.log"),
    ):
        code = daemon.process.wait(90)

    assert code == 0
    judged = [row for row in rows(database) if row["class"] is not None]
    assert len([path for path in maps.rglob("*") if path.is_file()]) == len(judged) > 0


def test_a_probe_is_a_hidden_file_for_a_moment(tmp_path: Path) -> None:
    probe = RootProbe(os.fsencode(tmp_path))
    question = probe.question()
    (hidden,) = tmp_path.iterdir()

    same = probe.refusal(prove_root(question))
    hidden.write_bytes(b"other")
    probe.close()

    assert same == ""
    assert hidden.name.startswith(".")
    assert list(tmp_path.iterdir()) == []


def test_another_folder_with_the_same_names_is_told_apart(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    probe = RootProbe(os.fsencode(here))
    (hidden,) = here.iterdir()
    (there / hidden.name).write_bytes(hidden.read_bytes())

    why = probe.refusal(prove_root(probe.question() | {"path": os.fsencode(there)}))
    missing = probe.refusal(prove_root(probe.question() | {"path": os.fsencode(tmp_path / "gone")}))
    probe.close()

    assert why == "is another folder there, or its files cannot be read"
    assert missing == "cannot be read there (No such file or directory)"


def test_an_inbox_that_takes_no_file_is_proven_by_those_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = draw_images(tmp_path / "inbox", 3)
    opened = os.open

    def read_only(path: bytes, flags: int, *mode: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(30, "Read-only file system")
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "open", read_only)  # root may write anywhere
    probe = RootProbe(os.fsencode(inbox))
    same = probe.refusal(prove_root(probe.question()))
    for path in inbox.iterdir():
        path.unlink()
    empty = RootProbe(os.fsencode(inbox))

    assert same == ""
    assert "nothing shows that it is the same" in empty.trouble
    assert stat.S_ISDIR(inbox.stat().st_mode)


def _said(row: dict[str, object]) -> tuple[object, ...]:
    return row["path"], row["class"], row["score"], row["status"]
