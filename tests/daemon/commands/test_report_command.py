"""`bt-daemon report`: whole, safe, honest about what is missing."""

from __future__ import annotations

import hashlib
import os
import re
import signal
from pathlib import Path

import pytest

from config.text import printable_name
from daemon.cli import main
from daemon.heatmaps.thumbnails import (
    NoThumbnail,
    RendererSetup,
    Thumbnail,
    ThumbnailRenderer,
    Wanted,
    decode_answer,
    encode_answer,
)
from storage.records import Failed, FailureKind
from tests.support.browser import file_address, needs_browser, rendered
from tests.support.hostile_names import HOSTILE_NAMES
from tests.support.stored_results import Store, judged
from trainer.images.phantom import phantom
from trainer.images.read import JudgedFile


@pytest.fixture
def judged_folder(tmp_path: Path) -> Path:
    """Three drawn heads and a text, judged into x.db."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for number in range(3):
        phantom(number, lesion=number == 1).save(inbox / f"head {number}.png")
    (inbox / "letter.jpg").write_text("no image")
    assert main(["watch", str(inbox), "--once", "--settle", "0s", "--db", str(tmp_path / "x.db"), "-q"]) == 0
    return tmp_path


def _report(folder: Path, *options: str) -> str:
    assert main(["report", "-o", str(folder / "r.html"), "--db", str(folder / "x.db"), *options]) == 0
    return (folder / "r.html").read_text()


@pytest.mark.slow
def test_report_shows_pictures_heatmaps_and_errors_in_one_file(judged_folder: Path) -> None:
    page = _report(judged_folder)

    assert page.count("data:image/webp;base64,") >= 3
    assert "not an image of a known format" in page
    assert "Not a medical device" in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)  # nothing from outside
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page


@pytest.mark.slow
def test_a_changed_and_a_missing_file_are_named_without_a_picture(judged_folder: Path) -> None:
    phantom(9, lesion=False).save(judged_folder / "inbox" / "head 0.png")
    (judged_folder / "inbox" / "head 1.png").unlink()

    page = _report(judged_folder)

    assert "the file has changed since it was judged" in page
    assert "head 1.png" in page
    assert page.count('class="none"') == 2


@pytest.mark.slow
def test_what_is_left_out_is_said(judged_folder: Path) -> None:
    page = _report(judged_folder, "--pictures", "1")

    assert "2 images are left out" in page


@pytest.mark.defects(38)
def test_a_report_that_is_named_as_something_else_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["report", "-o", str(tmp_path / "r.pdf"), "--db", str(tmp_path / "none.db")])

    err = capsys.readouterr().err
    assert (code, err.count("\n")) == (2, 1)
    assert "name it report.html" in err


def test_report_without_a_database_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["report", "-o", str(tmp_path / "r.html"), "--db", str(tmp_path / "none.db")])

    assert code == 3
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "r.html").exists()


@pytest.mark.slow
@needs_browser
def test_hostile_names_execute_nothing_and_sorting_works(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    store = Store(tmp_path / "x.db", tmp_path / "inbox")
    store.put([(name, judged(confidence=0.6 + number / 2000)) for number, name in enumerate(HOSTILE_NAMES)])
    reasons = [printable_name(name[:100]) for name in HOSTILE_NAMES[:40]]
    store.put([(b"bad%d" % number, Failed(FailureKind.PERMANENT, one)) for number, one in enumerate(reasons)])
    page = tmp_path / "r.html"

    assert main(["report", "-o", str(page), "--db", str(store.path), "--pictures", "2000"]) == 0
    document, console = rendered(file_address(page))

    assert "500 of 500 shown" in document  # the script of ours ran
    assert console == ""  # and nothing else tried to
    assert not re.search(r"<(script|img|b)[^>]*(alert|onerror)", document)
    assert "\u202e" not in page.read_text()


@pytest.mark.slow
def test_a_worker_that_dies_or_hangs_costs_one_picture(judged_folder: Path, engine_cache: Path) -> None:
    import logging

    from daemon.engines.cache import prepare_engine
    from trainer.images.decode import Limits
    from trainer.model.identity import default_weights

    prepared, _ = prepare_engine(default_weights(), "cpu", "auto", engine_cache, logging.getLogger("test"))
    path = os.fsencode(judged_folder / "inbox" / "head 1.png")
    judged = JudgedFile(b"", path, hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).digest())
    wanted = Wanted(judged, None, prepared.weights_sha256, 64)
    with ThumbnailRenderer(RendererSetup(prepared, Limits(), 1 << 30), seconds=30) as pictures:
        before = pictures.draw(wanted)
        assert pictures.process_id is not None
        os.kill(pictures.process_id, signal.SIGSTOP)
        hung = pictures.draw(wanted, seconds=0.2)
        after = pictures.draw(wanted)
        os.kill(pictures.process_id, signal.SIGKILL)
        dead = pictures.draw(wanted)

    assert isinstance(before, Thumbnail)
    assert before.heatmap is not None
    assert hung == NoThumbnail("took longer than 0.2 s to draw")
    assert isinstance(after, Thumbnail)
    assert isinstance(dead, Thumbnail)  # it died while it drew nothing: no picture is to blame


@pytest.mark.slow
@pytest.mark.defects(21)
def test_the_drawing_process_outlives_the_thread_that_started_it(
    judged_folder: Path, engine_cache: Path
) -> None:
    import logging
    import threading

    from daemon.engines.cache import prepare_engine
    from trainer.images.decode import Limits
    from trainer.model.identity import default_weights

    prepared, _ = prepare_engine(default_weights(), "cpu", "auto", engine_cache, logging.getLogger("test"))
    path = judged_folder / "inbox" / "head 1.png"
    judged = JudgedFile(b"", os.fsencode(path), hashlib.sha256(path.read_bytes()).digest())
    wanted = Wanted(judged, None, prepared.weights_sha256, 64)
    drawn = []
    with ThumbnailRenderer(RendererSetup(prepared, Limits(), 1 << 30), seconds=60) as pictures:
        for _ in range(2):
            thread = threading.Thread(
                target=lambda: drawn.append((pictures.draw(wanted), pictures.process_id))
            )
            thread.start()
            thread.join()

    assert all(isinstance(picture, Thumbnail) for picture, _ in drawn)
    assert drawn[0][1] == drawn[1][1]


@pytest.mark.defects(26)
@pytest.mark.parametrize("said", [b"", b"Pxxxx", b"P\0\0\0\4abcd", b"\x80\x04cos\nsystem\n", b"X" * 40])
def test_what_the_drawing_process_never_says_is_refused(said: bytes) -> None:
    with pytest.raises(ValueError, match="never says"):
        decode_answer(said)


@pytest.mark.defects(26)
def test_answers_of_the_drawing_process_come_back_as_they_were() -> None:
    webp = b"RIFF\0\0\0\0WEBPdata"

    for answer in (Thumbnail(webp, None), Thumbnail(webp, webp + b"x"), NoThumbnail("the file is gone")):
        assert decode_answer(encode_answer(answer)) == answer


@pytest.mark.defects(21)
def test_picture_that_takes_long_holds_up_none_that_is_kept() -> None:
    import threading
    from types import SimpleNamespace
    from typing import Any

    from daemon.web.gallery import Gallery

    started, go_on = threading.Event(), threading.Event()

    class Slow:
        def of(self, row: Any, side: int) -> Thumbnail:
            if row.result_id == 2:
                started.set()
                go_on.wait(30)
            return Thumbnail(b"%d" % row.result_id, None)

    gallery = Gallery(Slow())  # type: ignore[arg-type]
    kept = gallery.of(SimpleNamespace(result_id=1), 64)  # type: ignore[arg-type]
    slow = threading.Thread(target=gallery.of, args=(SimpleNamespace(result_id=2), 64))
    slow.start()
    started.wait(30)

    again = gallery.of(SimpleNamespace(result_id=1), 64)  # type: ignore[arg-type]
    go_on.set()
    slow.join()

    assert again is kept
