"""A real listener and real callers: what is answered, what lies in the inbox, what is said."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_files
from pynetdicom import _config

from tests.support.daemons import until
from tests.support.dicom_objects import CANARY_WORDS, MR_IMAGE, mr_slice, real_slices, written
from tests.support.listeners import (
    Listener,
    associated,
    begin_store,
    caller,
    data_set,
    listening,
    proposed,
    raw_store,
    send,
    statuses,
)

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
VERIFICATION = "1.2.840.10008.1.1"


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def objects(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "objects"
    folder.mkdir()
    return written(folder, 6)


@pytest.fixture
def listener(inbox: Path) -> Iterator[Listener]:
    with listening(inbox) as found:
        yield found


def _is_named_by_its_content(path: Path) -> bool:
    return path.name == hashlib.sha256(path.read_bytes()).hexdigest()[:32] + ".dcm"


@pytest.mark.slow
def test_every_object_that_is_answered_is_a_whole_file_and_none_is_there_twice(
    inbox: Path, objects: list[Path]
) -> None:
    with listening(inbox) as listener:
        answers = statuses(send(listener.port, objects))
        again = statuses(send(listener.port, objects))
        code = listener.stop()

    assert (answers, again, code) == ([0] * len(objects), [0] * len(objects), 0)
    found = sorted(inbox.iterdir())
    assert all(map(_is_named_by_its_content, found))
    sent = {dcmread(path).SOPInstanceUID: dcmread(path).PixelData for path in objects}
    assert {dcmread(path).SOPInstanceUID: dcmread(path).PixelData for path in found} == sent
    assert f"{len(objects)} stored" in listener.said()
    assert f"{len(objects)} were here already" in listener.said()


@pytest.mark.slow
def test_no_patient_and_no_uid_stands_in_a_name_a_line_or_an_answer(inbox: Path, objects: list[Path]) -> None:
    with listening(inbox, "-v", "--max-bytes", "20000") as listener:
        answers = send(listener.port, objects)
        listener.stop()

    assert {0x0000, 0xA700} == set(statuses(answers))
    uids = [str(dcmread(path).SOPInstanceUID) for path in objects]
    shown = listener.said() + " ".join(os.listdir(inbox)) + "".join(map(str, answers))
    for word in (*CANARY_WORDS, *uids):
        assert word.lower() not in shown.lower().replace("affected sop instance uid", "")


@pytest.mark.slow
def test_a_listener_imports_neither_torch_nor_a_database(listener: Listener) -> None:
    mapped = Path(f"/proc/{listener.process.pid}/maps").read_text()

    assert "torch" not in mapped
    assert "sqlite" not in mapped


@pytest.mark.slow
def test_c_echo_is_answered_and_said(listener: Listener) -> None:
    with associated(listener.port, caller([(VERIFICATION, EXPLICIT)])) as association:
        answer = association.send_c_echo()

    assert answer.Status == 0
    listener.until_it_says("1 C-ECHO")


def test_an_object_beyond_a_limit_is_refused_and_the_next_one_is_taken(inbox: Path, tmp_path: Path) -> None:
    large, small = tmp_path / "large", tmp_path / "small"
    mr_slice(1, size=512).save_as(large, enforce_file_format=True)
    mr_slice(2).save_as(small, enforce_file_format=True)
    with listening(inbox, "--max-bytes", "100KiB") as listener:
        answers = send(listener.port, [large, small])

        assert statuses(answers) == [0xA700, 0x0000]
        assert answers[0].ErrorComment == "larger than the limit of 102400 bytes"
        assert "(0xA700, MR Image Storage): larger than the limit" in listener.said()
    assert len(os.listdir(inbox)) == 1


def test_a_disk_that_is_to_keep_some_room_refuses(inbox: Path, objects: list[Path]) -> None:
    with listening(inbox, "--min-free", "1000000GiB") as listener:
        answers = statuses(send(listener.port, objects[:2]))

    assert answers == [0xA700, 0xA700]
    assert os.listdir(inbox) == []


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
def test_a_full_disk_refuses_leaves_nothing_and_takes_again_when_there_is_room(
    inbox: Path, objects: list[Path]
) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(inbox)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        (inbox / "filler.txt").write_bytes(bytes(60_000))
        with listening(inbox) as listener:
            refused = send(listener.port, objects[:1])
            after_refusal = os.listdir(inbox)
            (inbox / "filler.txt").unlink()
            taken = send(listener.port, objects[:1])
    finally:
        subprocess.run(["umount", inbox], check=True)

    assert (statuses(refused), refused[0].ErrorComment) == ([0xA700], "no room left in the inbox")
    assert after_refusal == ["filler.txt"]
    assert statuses(taken) == [0]


@pytest.mark.slow
def test_an_inbox_that_is_away_refuses_and_goes_on_when_it_is_back(
    inbox: Path, objects: list[Path], listener: Listener
) -> None:
    away = inbox.with_name("away")
    inbox.rename(away)
    refused = send(listener.port, objects[:1])
    away.rename(inbox)
    taken = send(listener.port, objects[:1])

    assert statuses(refused) == [0xA700]
    assert refused[0].ErrorComment == "the inbox cannot be written: No such file or directory"
    assert statuses(taken) == [0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_what_does_not_match_its_request_or_is_no_data_set_is_not_stored(
    inbox: Path, listener: Listener
) -> None:
    dataset = mr_slice(1)
    with associated(listener.port, caller([(MR_IMAGE, EXPLICIT)])) as association:
        other = raw_store(association, "1.2.3.4", data_set(dataset))
        broken = raw_store(association, str(dataset.SOPInstanceUID), b"\xff" * 3000)
        trick = raw_store(association, "../../../tmp/x", data_set(dataset))
        right = raw_store(association, str(dataset.SOPInstanceUID), data_set(dataset))

    assert [other, broken, trick, right] == [0xA900, 0xC000, 0x0117, 0x0000]
    assert len(os.listdir(inbox)) == 1


@pytest.mark.slow
def test_other_modalities_are_not_agreed_on_unless_asked_for(inbox: Path, tmp_path: Path) -> None:
    with listening(inbox) as listener:
        with associated(listener.port, caller([(CT_IMAGE, EXPLICIT)])) as association:
            without = [str(one.abstract_syntax) for one in association.accepted_contexts]
        listener.until_it_says("offers nothing that is taken here: CT Image Storage (see --any-modality)")
    with (
        listening(inbox, "--any-modality") as listener,
        associated(listener.port, caller([(CT_IMAGE, EXPLICIT)])) as association,
    ):
        with_it = [str(one.abstract_syntax) for one in association.accepted_contexts]

    assert (without, with_it) == ([], [CT_IMAGE])


@pytest.mark.parametrize(
    ("allow", "called", "title", "said"),
    [
        ("MRI1", "BT_DAEMON", "MRI2", "MRI2 at 127.0.0.1 is not allowed; --allow MRI2@127.0.0.1 lets it in"),
        (
            "MRI1@10.0.0.5",
            "BT_DAEMON",
            "MRI1",
            "a connection from 127.0.0.1 was closed: --allow names no such",
        ),
        ("MRI1", "ANOTHER", "MRI1", "MRI1 at 127.0.0.1 calls ANOTHER, and this is BT_DAEMON"),
    ],
)
def test_strangers_are_rejected_with_a_line_that_says_how_to_let_them_in(
    inbox: Path, allow: str, called: str, title: str, said: str
) -> None:
    with listening(inbox, "--allow", allow) as listener:
        with associated(listener.port, caller([(VERIFICATION, EXPLICIT)], title), called) as association:
            assert not association.is_established
        listener.until_it_says(said)
        with associated(listener.port, caller([(VERIFICATION, EXPLICIT)], "MRI1")) as association:
            assert association.is_established is (allow == "MRI1")


def test_one_caller_too_many_is_rejected_until_another_leaves(inbox: Path) -> None:
    entity = caller([(VERIFICATION, EXPLICIT)])
    with listening(inbox, "--max-associations", "1") as listener:
        with associated(listener.port, entity), associated(listener.port, entity) as second:
            assert second.is_rejected
        listener.until_it_says("released")
        with associated(listener.port, entity) as third:
            assert third.is_established


@pytest.mark.slow
def test_a_caller_that_says_nothing_or_lies_about_lengths_does_not_keep_others_away(
    inbox: Path, objects: list[Path], listener: Listener
) -> None:
    silent = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(3)]
    liar = socket.create_connection(("127.0.0.1", listener.port))
    liar.sendall(struct.pack(">BBL", 1, 0, 0xFFFFFFF0) + bytes(1000))
    try:
        answers = statuses(send(listener.port, objects))
        liar.settimeout(10)
        ended = liar.recv(1000)
    finally:
        for one in (*silent, liar):
            one.close()

    assert answers == [0] * len(objects)
    assert ended == b""
    assert _resident_megabytes(listener) < 300


@pytest.mark.slow
def test_a_large_object_takes_no_memory(inbox: Path, tmp_path: Path) -> None:
    path = tmp_path / "large"
    dataset = mr_slice(1)
    dataset.Rows = dataset.Columns = 8192
    dataset.PixelData = bytes(2 * 8192 * 8192)
    dataset.save_as(path, enforce_file_format=True)
    with listening(inbox) as listener:
        before = _peak_megabytes(listener)
        answers = statuses(send(listener.port, [path]))
        grown = _peak_megabytes(listener) - before

    assert answers == [0]
    assert path.stat().st_size > 128e6
    assert grown < 40


def test_an_association_that_breaks_off_in_an_object_leaves_nothing(inbox: Path, listener: Listener) -> None:
    association = caller([(MR_IMAGE, EXPLICIT)]).associate("127.0.0.1", listener.port, ae_title="BT_DAEMON")
    begin_store(association, "1.2.3.4", data_set(mr_slice(1))[:4000])
    until(lambda: os.listdir(inbox))
    association.abort()

    until(lambda: not os.listdir(inbox))
    listener.until_it_says("0 stored, 0.0 MB")


@pytest.mark.slow
def test_a_stop_while_objects_come_in_answers_or_forgets_and_the_next_start_clears_up(
    inbox: Path, tmp_path: Path
) -> None:
    with listening(inbox) as listener:
        association = caller([(MR_IMAGE, EXPLICIT)]).associate(
            "127.0.0.1", listener.port, ae_title="BT_DAEMON"
        )
        begin_store(association, "1.2.3.4", data_set(mr_slice(1))[:4000])
        until(lambda: os.listdir(inbox))
        began = time.monotonic()
        code = listener.stop()
        took = time.monotonic() - began
        after_stop = os.listdir(inbox)
        association.abort()
    with listening(inbox) as listener:
        association = caller([(MR_IMAGE, EXPLICIT)]).associate(
            "127.0.0.1", listener.port, ae_title="BT_DAEMON"
        )
        begin_store(association, "1.2.3.4", data_set(mr_slice(1))[:4000])
        until(lambda: os.listdir(inbox))
        listener.kill()
        after_kill = os.listdir(inbox)
        association.abort()
    (inbox / "upload.part").touch()
    with listening(inbox) as listener:
        after_start = os.listdir(inbox)

    assert (code, after_stop) == (0, [])
    assert took < 10
    assert len(after_kill) == 1
    assert after_start == ["upload.part"]
    assert "removed 1 half-written files" in listener.said()


@pytest.mark.slow
def test_a_closed_terminal_does_not_end_a_listener_and_ctrl_c_does(listener: Listener) -> None:
    listener.process.send_signal(signal.SIGHUP)
    listener.until_it_says("SIGHUP")

    assert listener.stop(signal.SIGINT) == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, about its own odd files
def test_objects_in_every_transfer_syntax_that_is_agreed_on_arrive_as_they_were_sent(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)  # the bytes of the file
    paths = _bundled()
    syntaxes = set()
    with listening(inbox, "--any-modality") as listener:
        for path in paths:
            before = set(inbox.iterdir())
            ((_, syntax),) = proposed([path])
            with associated(listener.port, caller(proposed([path]))) as association:
                if not association.accepted_contexts:
                    continue
                answer = association.send_c_store(path)
            (arrived,) = set(inbox.iterdir()) - before

            assert answer.Status == 0
            assert _after_the_head(arrived) == _after_the_head(path)
            syntaxes.add(syntax)

    assert len(syntaxes) >= 8


def _bundled() -> list[Path]:
    """Return pydicom's own whole files of images, one for each class and transfer syntax."""
    chosen = {}
    for name in sorted(get_testdata_files("*.dcm")):
        head = dcmread(name, force=True, stop_before_pixels=True)
        names = ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")
        if all(one in head.file_meta for one in names) and "Rows" in head and "SOPInstanceUID" in head:
            same = head.file_meta.MediaStorageSOPInstanceUID == head.SOPInstanceUID
            same &= head.file_meta.MediaStorageSOPClassUID == head.SOPClassUID
            if same and _UID.fullmatch(head.SOPInstanceUID):
                chosen[head.SOPClassUID, head.file_meta.TransferSyntaxUID] = Path(name)
    return sorted(chosen.values())


def _after_the_head(path: Path) -> bytes:
    """Return a file's data set, as it is stored."""
    data = path.read_bytes()
    return data[144 + int.from_bytes(data[140:144], "little") :]


@pytest.mark.slow
@pytest.mark.skipif(not real_slices(), reason="the shared images are not here")
def test_real_slices_come_through_byte_for_byte(inbox: Path, listener: Listener) -> None:
    paths = real_slices()

    answers = statuses(send(listener.port, paths))

    assert answers == [0] * len(paths)
    sent = {dcmread(path).SOPInstanceUID: dcmread(path).PixelData for path in paths}
    assert {dcmread(path).SOPInstanceUID: dcmread(path).PixelData for path in inbox.iterdir()} == sent


def _resident_megabytes(listener: Listener) -> float:
    return _status(listener, "VmRSS")


def _peak_megabytes(listener: Listener) -> float:
    return _status(listener, "VmHWM")


def _status(listener: Listener, key: str) -> float:
    lines = Path(f"/proc/{listener.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))
