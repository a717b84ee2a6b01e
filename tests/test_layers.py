"""The layers: which package may import which, stated as a table and read from the imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

ROOMS = ("config", "storage", "trainer", "daemon")

_IMAGES = {"config", "trainer.images"}
_MODEL = {*_IMAGES, "trainer.model"}
_STORED = {"config", "storage.records", "storage.pseudonyms", "storage.database_errors"}
_DATABASE = {
    *_STORED,
    "storage.random_order",
    "storage.portable_sql",
    "storage.schema",
    "storage.statements",
    "storage.upsert",
    "storage.backend",
    "storage.database",
    "storage.database_copy",
    "storage.counters",
}
_QUERIES = {*_DATABASE, "storage.query", "storage.ledger", "storage.queries"}
_STORAGE = {*_QUERIES, "storage.reviews", "storage.maintenance", "storage.lock"}
_BASE = {"config", "daemon.clock", "daemon.process", "daemon.log", "daemon.frames"}

# Package -> packages it may import; a module that lies beside packages counts as one of its own. Imports
# inside functions and for type checking count: they bind as much.
LAYERS: dict[str, set[str]] = {
    "config": set(),
    "storage.records": {"config"},
    "storage.pseudonyms": set(),
    "storage.database_errors": {"config"},
    "storage.query": _STORED,
    "storage.random_order": set(),
    "storage.portable_sql": set(),
    "storage.schema": {*_STORED, "storage.random_order"},
    "storage.statements": {*_STORED, "storage.schema"},
    "storage.migrations": {*_STORED, "storage.schema"},
    "storage.database_copy": {"config"},
    "storage.file_identity": _STORED,
    "storage.lock": {*_DATABASE, "storage.file_identity"},
    "storage.backend": {
        *_STORED,
        "storage.schema",
        "storage.statements",
        "storage.migrations",
        "storage.file_identity",
        "storage.database_copy",
    },
    "storage.database": {*_STORED, "storage.backend"},
    "storage.upsert": {"storage.statements"},
    "storage.counters": _DATABASE - {"storage.counters"},
    "storage.ledger": _DATABASE,
    "storage.queries": {*_DATABASE, "storage.query", "storage.ledger"},
    "storage.reviews": _QUERIES,
    "storage.maintenance": {*_QUERIES, "storage.lock", "storage.migrations"},
    "trainer.images": {"config"},
    "trainer.model": _IMAGES,
    "trainer.networks": _MODEL,
    "trainer.data": _MODEL,
    "trainer.evaluation": {*_MODEL, "trainer.networks", "trainer.data"},
    "trainer.export": {*_MODEL, "trainer.networks"},
    "trainer.training": {*_MODEL, "trainer.networks", "trainer.data", "trainer.evaluation"},
    "trainer.loggers": {"config", "trainer.training"},
    "trainer.runs": {"config", "trainer.images", "trainer.evaluation", "trainer.training"},
    "trainer.commands": {*_MODEL, "trainer.networks", "trainer.data", "trainer.evaluation",
                         "trainer.training", "trainer.export", "trainer.loggers", "trainer.runs"},
    "trainer.cli": {*_MODEL, "trainer.networks", "trainer.data", "trainer.evaluation", "trainer.training",
                    "trainer.export", "trainer.loggers", "trainer.runs", "trainer.commands"},
    "daemon.clock": set(),
    "daemon.process": {"config"},
    "daemon.log": {"config"},
    "daemon.frames": set(),
    "daemon.part_files": set(),
    "daemon.model_store": {*_BASE, *_MODEL},
    "daemon.version": _MODEL,
    "daemon.inbox": {*_BASE, *_STORED},
    "daemon.foreign": {*_BASE, *_MODEL},
    "daemon.store": {*_BASE, *_STORED, "storage.ledger", "trainer.images", "daemon.inbox"},
    "daemon.engines": {*_BASE, *_MODEL, "trainer.networks", "daemon.foreign"},
    "daemon.heatmaps": {*_BASE, *_QUERIES, *_MODEL, "daemon.engines", "daemon.foreign", "daemon.output",
                        "daemon.model_store", "daemon.store"},
    "daemon.workers": {*_BASE, *_STORED, *_MODEL, "storage.ledger", "daemon.engines", "daemon.foreign",
                       "daemon.heatmaps", "daemon.store"},
    "daemon.remote": {*_BASE, *_STORED, *_MODEL, "daemon.engines", "daemon.foreign", "daemon.store",
                      "daemon.workers", "daemon.version"},
    "daemon.remote.head": {*_BASE, *_STORED, *_MODEL, "daemon.workers", "daemon.remote"},
    "daemon.service": {*_BASE, *_STORAGE, *_MODEL, "daemon.inbox", "daemon.store", "daemon.engines",
                       "daemon.heatmaps",
                       "daemon.workers", "daemon.remote", "daemon.remote.head", "daemon.output",
                       "daemon.model_store", "daemon.notify"},
    "daemon.output": {*_BASE, *_QUERIES, *_MODEL, "storage.reviews"},
    "daemon.operations": {"config"},
    "daemon.views": {*_BASE, *_STORAGE, "daemon.output"},
    "daemon.exchange": {*_BASE, *_QUERIES, *_MODEL, "storage.reviews", "daemon.output", "daemon.store",
                        "daemon.version"},
    "daemon.notify": {*_BASE, *_STORAGE, "daemon.views", "daemon.version"},
    "daemon.web.pages": {*_BASE, *_QUERIES, *_MODEL, "daemon.output", "daemon.heatmaps"},
    "daemon.web.finding": {*_BASE, *_QUERIES, *_MODEL, "storage.reviews", "daemon.output",
                           "daemon.web.pages"},
    "daemon.web.viewer": {*_BASE, *_QUERIES, *_MODEL, "daemon.output", "daemon.heatmaps",
                          "daemon.web.pages", "daemon.store"},
    "daemon.web.reviewing": {*_BASE, *_QUERIES, "daemon.output", "daemon.web.pages", "storage.reviews"},
    "daemon.web.uploading": {*_BASE, *_DATABASE, "daemon.inbox", "daemon.part_files", "storage.ledger"},
    "daemon.web": {*_BASE, *_STORAGE, *_MODEL, "daemon.output", "daemon.views", "daemon.heatmaps",
                   "daemon.web.pages", "daemon.web.finding", "daemon.web.viewer", "daemon.web.reviewing",
                   "daemon.web.uploading", "daemon.version"},
    "daemon.listen": {*_BASE, "trainer.images", "daemon.part_files"},
    "daemon.doctor": {*_BASE, *_STORAGE, *_MODEL, "daemon.output", "daemon.engines", "daemon.foreign",
                      "daemon.version"},
    "daemon.commands": {*_BASE, *_STORAGE, *_MODEL, "daemon.inbox", "daemon.engines", "daemon.heatmaps",
                        "daemon.workers", "daemon.remote", "daemon.service", "daemon.output", "daemon.views",
                        "daemon.web",
                        "daemon.exchange", "daemon.web.pages", "daemon.web.viewer", "daemon.listen",
                        "daemon.doctor", "daemon.version", "daemon.model_store", "daemon.operations",
                        "daemon.foreign", "daemon.store"},
    "daemon.cli": {*_BASE, "daemon.commands", "daemon.version"},
}  # fmt: skip
# The two programs have a command line each.
NAMES_SHARED = {"cli"}
# Tested by what uses them: a package of pages by its browser tests, migrations by the database's.
UNTESTED_ALONE = {"daemon/web/pages", "storage/migrations", "storage/migrations/versions"}
MOST_MODULES, MOST_LINES, MOST_PARAMETERS, LONGEST_FUNCTION = 17, 400, 6, 40
# Below the line: what judges an image imports no torch.
WITHOUT_TORCH = ("trainer.images", "trainer.model", "daemon.inbox", "daemon.service")


def _modules() -> dict[str, Path]:
    """Return module name -> file, of all rooms."""
    found = {}
    for room in ROOMS:
        for path in (REPOSITORY / room).rglob("*.py"):
            name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


MODULES = _modules()


def _imports(path: Path, *, at_import_only: bool = False) -> set[str]:
    """Return the modules of ours, and torch, that a file imports; by default wherever it does so."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if at_import_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in MODULES else node.module)
    return {name for name in found if name in MODULES or name.split(".")[0] in {"torch", "torchvision"}}


GRAPH = {name: _imports(path) & MODULES.keys() - {name} for name, path in MODULES.items()}


def _unit(module: str) -> str:
    """Return the line of the table that a module belongs to."""
    while module not in LAYERS and "." in module:
        module = module.rpartition(".")[0]
    return module


def test_table_names_every_package() -> None:
    units = {_unit(name) for name, path in MODULES.items() if path.name != "__init__.py"}

    assert units == LAYERS.keys()


def test_packages_import_only_what_the_table_allows() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, others in GRAPH.items()
        for other in others
        if MODULES[other].name != "__init__.py" and _unit(other) not in LAYERS[_unit(name)] | {_unit(name)}
    ]

    assert not wrong


def test_table_and_modules_have_no_circles() -> None:
    TopologicalSorter(LAYERS).prepare()
    TopologicalSorter(GRAPH).prepare()


def test_what_judges_imports_no_torch_by_any_way() -> None:
    at_import = {name: _imports(path, at_import_only=True) for name, path in MODULES.items()}
    wrong = {}
    for start in (name for name in MODULES if name.startswith(WITHOUT_TORCH)):
        seen, left = set(), [start]
        while left:
            name = left.pop()
            if name not in seen:
                seen.add(name)
                left += at_import.get(name, set())
        if torch := {name for name in seen if name.split(".")[0] in {"torch", "torchvision"}}:
            wrong[start] = torch

    assert not wrong


@pytest.mark.slow
def test_what_judges_imports_no_torch_in_a_fresh_interpreter() -> None:
    names = sorted(name for name in MODULES if name.startswith(WITHOUT_TORCH))
    script = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\n"
    script += "sys.exit('torch' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", script, *names], cwd=REPOSITORY, check=False)

    assert done.returncode == 0


def test_no_module_name_stands_twice_but_for_a_command_and_what_it_calls() -> None:
    places = defaultdict(list)
    for name, path in MODULES.items():
        if path.name != "__init__.py" and not name.startswith(("daemon.commands", "trainer.commands")):
            places[name.rpartition(".")[2]].append(name)

    twice = {name: found for name, found in places.items() if len(found) > 1 and name not in NAMES_SHARED}

    assert not twice


def test_no_public_class_name_stands_twice() -> None:
    places = defaultdict(list)
    for name, path in MODULES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name)

    assert not {name: found for name, found in places.items() if len(found) > 1}


def test_packages_and_modules_stay_small_enough_to_be_looked_over() -> None:
    packages = defaultdict(list)
    for name, path in MODULES.items():
        if path.name != "__init__.py" and not name.startswith(("daemon.commands.", "trainer.commands.")):
            packages[name.rpartition(".")[0]].append(name)
    lines = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}

    assert not {name: len(found) for name, found in packages.items() if len(found) > MOST_MODULES}
    assert not {name: count for name, count in lines.items() if count > MOST_LINES}


def test_functions_stay_short_enough_to_be_read_at_once() -> None:
    long = {
        f"{name}.{node.name}": node.end_lineno - node.lineno + 1
        for name, path in MODULES.items()
        if not name.startswith("storage.migrations.versions")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None
    }

    assert not {name: count for name, count in long.items() if count > LONGEST_FUNCTION}


def test_the_checks_hold_functions_and_tests_to_the_rules_too() -> None:
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]

    assert settings["ruff"]["lint"]["pylint"]["max-args"] == MOST_PARAMETERS
    assert "PLR0913" not in settings["ruff"]["lint"]["ignore"]
    assert "tests" in settings["mypy"]["packages"]


def test_array_types_have_one_home() -> None:
    homes = {
        name
        for name, path in MODULES.items()
        if re.search(r"^\w+ = npt\.NDArray\[", path.read_text(), re.MULTILINE)
    }

    assert homes == {"trainer.images.arrays"}


def test_every_package_has_tests_of_its_own() -> None:
    packages = {name.replace(".", "/") for name, path in MODULES.items() if path.name == "__init__.py"}
    without = {name for name in packages if not list((REPOSITORY / "tests" / name).rglob("test_*.py"))}

    assert without <= UNTESTED_ALONE


@pytest.mark.parametrize("name", sorted(MODULES))
def test_first_line_of_a_module_says_what_it_is_or_does(name: str) -> None:
    first = (ast.get_docstring(ast.parse(MODULES[name].read_text())) or "").split("\n")[0]

    assert first
    assert not re.match(r"(What|How|Which|Where|Whether|Why|When)\b", first)
