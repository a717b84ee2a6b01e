"""The documentation names what is there: layers, files, links."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.test_layers import LAYERS, MODULES

PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *(f"{room}/README.md" for room in ("daemon", "storage", "trainer", "tests")),
    "daemon/SCALE.md",
]


def test_the_readme_can_be_read_at_a_sitting() -> None:
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 150


def test_the_readme_gives_the_shipped_models_figures() -> None:
    folder = REPOSITORY / "trainer" / "default"
    validation = json.loads((folder / "metrics.json").read_text())["metrics"]["validation"]
    left_out = json.loads((folder / "left_out.json").read_text())["left_out"].values()

    def value(figures: dict[str, Any], name: str) -> float | None:
        found = figures.get(name)
        return found["value"] if isinstance(found, dict) else found

    wanted = []
    for words, name in _FIGURES.items():
        if (held_out := value(validation, name)) is not None:
            wanted.append(f"{words} {held_out:.3f}")
        if name != "accuracy":
            elsewhere = [found for one in left_out if (found := value(one, name)) is not None]
            wanted.append(f"{words} {min(elsewhere):.2f} to {max(elsewhere):.2f}")
    text = " ".join((REPOSITORY / "README.md").read_text().split())
    assert [words for words in wanted if words not in text] == []


_FIGURES = {
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ROC-AUC": "roc_auc",
}


def test_the_table_of_layers_names_every_package_in_an_order_that_holds() -> None:
    text = (
        (REPOSITORY / "CONTRIBUTING.md")
        .read_text()
        .partition("## The layers")[2]
        .partition("## How to add")[0]
    )
    rows = [line.split("|")[1:4] for line in text.splitlines() if line.startswith("| `")]
    named = [name for first, _, _ in rows for name in re.findall(r"`([\w/]+)`", first)]
    packages = {name.replace(".", "/") for name, path in MODULES.items() if path.name == "__init__.py"}
    inner = {
        "daemon",
        "trainer",
        "trainer/images/formats",
        "trainer/data/colour",
        "trainer/data/lesions",
        "trainer/evaluation/outputs",
        "storage/migrations/versions",
    }

    assert set(named) == packages - inner
    for place, name in enumerate(named):
        unit = name.replace("/", ".")
        later = {other.replace("/", ".") for other in named[place + 1 :]}
        assert not LAYERS.get(unit, set()) & later - {f"{unit}.pages"}, name


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page: str) -> None:
    text = (REPOSITORY / page).read_text()
    linked = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if ":" not in target]
    shown = re.findall(r"`((?:config|storage|trainer|daemon|tests)/[\w/.-]+)`", text)

    missing = [target for target in linked if not (REPOSITORY / page).parent.joinpath(target).exists()]
    missing += [name for name in shown if not Path(REPOSITORY / name).exists()]

    assert not missing
