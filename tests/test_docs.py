"""The documentation names what is there: layers, files, links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.test_layers import LAYERS, MODULES

PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *(f"{room}/README.md" for room in ("daemon", "storage", "trainer", "tests")),
]


def test_the_readme_can_be_read_at_a_sitting() -> None:
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 150


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
        "trainer/data/lesions",
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
