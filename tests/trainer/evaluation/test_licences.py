"""What this MIT program needs is under licences that go with it, and what its weights come from is told."""

from __future__ import annotations

import json
import tomllib
from importlib.metadata import PackageNotFoundError, metadata

import pytest
from packaging.requirements import Requirement

from tests.conftest import REPOSITORY
from trainer.evaluation.model_card import card_text
from trainer.model.identity import default_weights
from trainer.model.weights import read_spec


@pytest.mark.defects(44)
def test_no_dependency_of_the_program_is_under_the_gpl() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    names = [Requirement(text).name for text in project["dependencies"]]

    copyleft = {}
    for name in names:
        try:
            told = metadata(name)
        except PackageNotFoundError:
            continue
        licences = [
            *(told.get_all("License-Expression") or []),
            *(text.splitlines()[:1] for text in told.get_all("License") or []),
            *(text for text in told.get_all("Classifier") or [] if text.startswith("License")),
        ]
        if "GPL" in str(licences) or "General Public License" in str(licences):
            copyleft[name] = licences

    assert "pylibjpeg-libjpeg" not in names
    assert copyleft == {}


@pytest.mark.defects(44)
def test_the_card_of_the_shipped_model_is_what_its_figures_make_and_says_how_it_may_be_used() -> None:
    folder = REPOSITORY / "trainer" / "default"
    card = (folder / "CARD.md").read_text()

    assert card == card_text(json.loads((folder / "metrics.json").read_text()))
    licence = card.partition("## Licence")[2].partition("##")[0]
    assert "not for these weights" in licence
    assert "do not use them commercially" in licence
    assert "has no licence stated" in licence
    assert "ImageNet weights (Apache-2.0)" in licence


@pytest.mark.defects(44)
def test_the_notice_names_every_source_of_the_shipped_weights() -> None:
    notice = (REPOSITORY / "NOTICE").read_text()
    sources = read_spec(default_weights()).provenance.data

    assert len(sources) == 8
    for source in sources:
        line = next(line for line in notice.splitlines() if line.split()[:1] == [source["source"]])
        assert line.endswith(source["licence"].replace("not stated", "no licence stated"))


@pytest.mark.defects(44)
def test_the_card_of_free_images_forbids_nothing() -> None:
    report = json.loads((REPOSITORY / "trainer" / "default" / "metrics.json").read_text())
    report["provenance"]["data"] = [report["provenance"]["data"][1]]
    assert report["provenance"]["data"][0]["licence"] == "CC0"

    licence = card_text(report).partition("## Licence")[2].partition("##")[0]

    assert "commercial" not in licence
    assert "no licence" not in licence
