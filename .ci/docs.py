"""Build the documentation site from the READMEs and the commands' own help; warnings are errors.

    python .ci/docs.py [SITE]

Every page is a file of the repository, copied to the same place so that its links hold, but for those of the
commands, which are written by the commands. Needs the extra `docs`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "daemon/README.md",
    "daemon/SCALE.md",
    "storage/README.md",
    "trainer/README.md",
    "trainer/EXPERIMENTS.md",
    "trainer/default/CARD.md",
    "tests/README.md",
)


def main(arguments: list[str]) -> int:
    """Build into a folder (a temporary one without an argument); return mkdocs' exit code."""
    with tempfile.TemporaryDirectory(prefix="bt-docs-") as work:
        source, site = Path(work) / "source", Path(arguments[0] if arguments else f"{work}/site").absolute()
        for page in PAGES:
            copy(page, source)
        (source / "commands").mkdir()
        sys.path.insert(0, str(ROOT))
        from daemon.cli import cli as daemon
        from trainer.cli import cli as trainer

        for name, program in (("bt-daemon", daemon), ("bt-train", trainer)):
            (source / "commands" / f"{name}.md").write_text("\n".join(help_page(name, program)), "utf-8")
        command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(site)]
        return subprocess.run(
            [*command, "--config-file", str(ROOT / ".ci" / "mkdocs.yml")],
            env={**os.environ, "DOCS_DIR": str(source), "NO_MKDOCS_2_WARNING": "1"},
            check=False,
        ).returncode


def copy(page: str, source: Path) -> None:
    """Copy a page, and the files that its links name."""
    text = (ROOT / page).read_text("utf-8")
    (source / page).parent.mkdir(parents=True, exist_ok=True)
    (source / page).write_text(text, "utf-8")
    for target in re.findall(r"\]\(([^)#:\s]+)\)", text):
        path = (ROOT / page).parent / target
        if path.is_file() and path.suffix != ".md":
            place = source / path.resolve().relative_to(ROOT)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)


def help_page(name: str, program: click.Group) -> Iterator[str]:
    """Yield the lines of a page with the help of a program and of all its commands."""
    yield f"# {name}\n"
    context = click.Context(program, info_name=name, max_content_width=110, terminal_width=110)
    yield f"```text\n{program.get_help(context)}\n```\n"
    yield from _commands(program, context, 2)


def _commands(group: click.Group, context: click.Context, level: int) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(
            command, info_name=name, parent=context, max_content_width=110, terminal_width=110
        )
        yield f"{'#' * level} {inner.command_path}\n"
        yield f"```text\n{command.get_help(inner)}\n```\n"
        if isinstance(command, click.Group):
            yield from _commands(command, inner, level + 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
