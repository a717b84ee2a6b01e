"""What is wrong with a collection, found before anything is trained on it; and how a model does on one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from tests.support.training import draw_heads
from trainer.cli import main
from trainer.images.phantom import phantom


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """Two classes; one file copied within its class, one copied into the other class, one broken."""
    root = tmp_path / "set"
    for label, lesion in (("yes", True), ("no", False)):
        (root / label).mkdir(parents=True)
        for number in range(8):
            phantom(number * 2 + lesion, lesion=lesion, label=False).save(root / label / f"{number}.png")
    shutil.copy(root / "no" / "1.png", root / "no" / "copy.png")
    shutil.copy(root / "yes" / "2.png", root / "no" / "stray.png")
    (root / "no" / "broken.png").write_text("no image")
    return root


def test_audit_names_twins_conflicts_and_unreadable_files(
    collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["audit", "--data", str(collection), "--json"])

    report = json.loads(capsys.readouterr().out)
    assert code == 0
    assert report["images"] == 18
    assert report["exact_duplicates"] == 2
    assert [Path(one["file"]).name for one in report["unreadable"]] == ["broken.png"]
    assert any({"set/no/stray.png", "set/yes/2.png"} <= set(group) for group in report["label_conflicts"])


def test_audit_says_when_a_source_holds_one_class_only(
    collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "healthy" / "no").mkdir(parents=True)
    phantom(99, lesion=False).save(tmp_path / "healthy" / "no" / "1.png")

    main(["audit", "--data", str(collection), "--data", str(tmp_path / "healthy")])

    assert "healthy holds only no" in capsys.readouterr().out


def test_audit_of_a_missing_folder_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["audit", "--data", "nowhere"])

    assert code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_eval_gives_every_source_its_figures(collection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["eval", "--data", str(collection), "--device", "cpu", "--json"])

    report = json.loads(capsys.readouterr().out)
    assert code == 0
    assert report["all"]["count"] == 18
    assert report["by_source"]["set"]["count"] == 18
    assert sum(map(sum, report["all"]["confusion"])) == 18
    assert report["unreadable"] == 1


def test_audit_ranks_a_thick_white_skull_first_and_draws_sheets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = draw_heads(tmp_path / "set", 14)
    with Image.open(root / "no" / "no 3.png") as opened:
        head = opened.convert("L")
    width, height = head.size
    pen = ImageDraw.Draw(head)
    pen.ellipse((width // 6, height // 6, width * 5 // 6, height * 5 // 6), outline=255, width=width // 12)
    head.save(root / "no" / "skull.png")
    ImageOps.mirror(head).save(root / "yes" / "mirrored.png")

    code = main(["audit", "--data", str(root), "--sheets", str(tmp_path / "sheets"), "--json"])

    report = json.loads(capsys.readouterr().out)
    ranked = {(one["label"], one["measure"]): one["files"] for one in report["strangers"]}
    assert code == 0
    assert ranked["no", "white"][0]["file"] == "set/no/skull.png"
    assert len(ranked["no", "unlike"]) == 15
    assert report["mirrored_twins"] >= 2
    assert {"set/no/skull.png", "set/yes/mirrored.png"} <= set(report["label_conflicts"][0])
    assert {"label-conflicts.png", "mirrored-pairs.png", "strangers-set-no-white.png"} <= set(
        report["sheets"]
    )
    for name in report["sheets"]:
        with Image.open(tmp_path / "sheets" / name) as sheet:
            assert np.asarray(sheet).max() > 0
