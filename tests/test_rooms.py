"""The table of rooms in the README and design, stated by reading imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

ROOMS = ("config", "storage", "trainer", "daemon")
MAY_IMPORT = {
    "config": set(),
    "storage": {"config"},
    "trainer": {"config"},
    "daemon": {"trainer", "storage", "config"},
}
# Modules of the trainer's ground floor: they must stay importable without torch.
UPPER_FLOOR_USERS = {"daemon/engines/torch_engine.py", "daemon/engines/build_openvino.py"}


def _imports(path: Path, *, top_level_only: bool) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_the_table_allows(room: str) -> None:
    allowed = MAY_IMPORT[room] | {room}

    wrong = {
        f"{path.relative_to(REPOSITORY)} imports {name}"
        for path in (REPOSITORY / room).rglob("*.py")
        for name in _imports(path, top_level_only=False)
        if name.split(".")[0] in ROOMS and name.split(".")[0] not in allowed
    }

    assert not wrong


def test_only_the_engine_files_of_the_daemon_reach_the_trainers_upper_floor() -> None:
    upper = {
        f"trainer.{path.stem}"
        for path in (REPOSITORY / "trainer").glob("*.py")
        if "torch" in {name.split(".")[0] for name in _imports(path, top_level_only=True)}
    }

    wrong = {
        f"{path.relative_to(REPOSITORY)} imports {name}"
        for path in (REPOSITORY / "daemon").rglob("*.py")
        for name in _imports(path, top_level_only=False)
        if name in upper and str(path.relative_to(REPOSITORY)) not in UPPER_FLOOR_USERS
    }

    assert not wrong
