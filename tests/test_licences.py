"""What this MIT program needs is under licences that go with it, and what its weights come from is told."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, metadata

import pytest
from packaging.requirements import Requirement

from tests.conftest import REPOSITORY


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
            told.get("License-Expression", ""),
            (told.get("License", "") or "").splitlines()[:1],
            *(text for text in told.get_all("Classifier", []) if text.startswith("License")),
        ]
        if "GPL" in str(licences) or "General Public License" in str(licences):
            copyleft[name] = licences

    assert "pylibjpeg-libjpeg" not in names
    assert copyleft == {}
