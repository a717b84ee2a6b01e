"""`bt-daemon doctor`: whether this machine is fit for the work, and what to do if it is not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from config.options import Invocation, Place, pass_invocation, program_options, setting_options

if TYPE_CHECKING:
    from daemon.doctor.finding import Finding
    from daemon.output.facts import Style

_COLORS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command(short_help="Check this machine.")
@click.argument("folders", metavar="[DIR]...", nargs=-1, type=Place())
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@setting_options("weights", "spec", "device", "on_done", "cache")
@program_options
@pass_invocation
def command(invocation: Invocation, folders: tuple[Path, ...], as_json: bool) -> int:
    r"""Check this machine: SQLite, disks, watch folders, decoders, engine, weights, clock.

    Exits with 1 when something would keep the daemon from working.

    \b
    Examples:
      bt-daemon doctor
      bt-daemon doctor ./inbox --json
    """
    from daemon.doctor.examination import examine
    from daemon.doctor.finding import Level, Surroundings
    from storage.database import stand_in

    settings = invocation.settings
    findings = list(examine(Surroundings(settings, stand_in(settings.db), folders)))
    healthy = not any(finding.level is Level.FAIL for finding in findings)
    click.echo(_as_json(findings, healthy=healthy) if as_json else _as_text(findings, invocation))
    return 0 if healthy else 1


def _as_json(findings: Sequence[Finding], *, healthy: bool) -> str:
    from dataclasses import asdict

    from daemon.output.json_text import json_text

    return json_text({"healthy": healthy, "findings": [asdict(finding) for finding in findings]}, indent=2)


def _as_text(findings: Sequence[Finding], invocation: Invocation) -> str:
    from daemon.output.facts import style_of

    style = style_of(invocation)
    width = max(len(finding.check) for finding in findings) + 2
    lines = [line for finding in findings for line in _lines(finding, width, style)]
    return "\n".join([*lines, "", _verdict(findings, style)])


def _lines(finding: Finding, width: int, style: Style) -> list[str]:
    mark = style(finding.level.value.ljust(6), _COLORS[finding.level.value])
    lines = [f"{mark}{finding.check.ljust(width)}{finding.fact}"]
    if finding.advice:
        lines.append(f"{' ' * (width + 6)}-> {finding.advice}")
    return lines


def _verdict(findings: Sequence[Finding], style: Style) -> str:
    counts = {level: sum(finding.level.value == level for finding in findings) for level in ("fail", "warn")}
    if counts["fail"]:
        return style(f"Unhealthy: {counts['fail']} to mend, {counts['warn']} to know.", "red", bold=True)
    return style(f"Healthy, {counts['warn']} to know." if counts["warn"] else "Healthy.", "green", bold=True)
