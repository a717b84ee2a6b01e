"""The two charts of a page, as SVG: results over time, and how sure they are.

Nothing but numbers and escaped words goes in; colours are classes of the style sheet, so that light,
dark and print each have theirs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import tzinfo
from html import escape

from config.text import printable
from daemon.output.cells import when
from daemon.output.words import ScoreLimits
from daemon.web.pages.overview import BINS, Overview
from storage.records import Status

_WIDTH, _HEIGHT = 640.0, 180.0  # of the drawing's own coordinates; it scales with the page
_LEFT, _BOTTOM, _TOP = 44.0, 24.0, 8.0


def colour(label: str | None, status: Status, labels: Sequence[str], positives: Collection[str]) -> str:
    """Return the style class in which a class or a status without one is drawn, everywhere the same."""
    if label is None:
        return f"is-{status.value}"
    if label in positives:
        return "is-found"
    rest = [name for name in labels if name not in positives]
    return f"is-class{rest.index(label) % 4 if label in rest else 0}"


def timeline_chart(found: Overview, positives: Collection[str], zone: tzinfo) -> str:
    """Return the bars of results over time, one colour per class."""
    stacks: dict[int, dict[str, tuple[str, int]]] = {}
    for bar in found.bars:
        words = printable(bar.label) if bar.label is not None else bar.status.value
        shade = colour(bar.label, bar.status, found.labels, positives)
        stack = stacks.setdefault(bar.start_us, {})
        stack[shade] = (words, stack.get(shade, ("", 0))[1] + bar.count)
    if not stacks:
        return ""
    step_us = found.step_seconds * 1_000_000
    first, last = min(stacks), max(stacks)
    count = (last - first) // step_us + 1
    most = max(sum(number for _, number in stack.values()) for stack in stacks.values())
    width = min(60.0, (_WIDTH - _LEFT) / count)
    parts = [_grid(most)]
    for start, stack in sorted(stacks.items()):
        x = _LEFT + (start - first) // step_us * width
        base = 0
        for shade, (words, number) in sorted(stack.items()):
            told = f"{when(start, zone):%Y-%m-%d %H:%M} {words}: {number:,}"
            parts.append(_bar(x, width, _heights(base, number, most), shade, told))
            base += number
    parts.append(_label(_LEFT, f"{when(first, zone):%Y-%m-%d %H:%M}", "start"))
    if count > 4:
        parts.append(_label(_LEFT + count * width, f"{when(last, zone):%Y-%m-%d %H:%M}", "end"))
    return _svg(parts, "Results over time")


def score_chart(
    histogram: Mapping[str, Sequence[int]], positives: Collection[str], limits: Sequence[ScoreLimits]
) -> str:
    """Return how many results have which score, by the class that was given, with thresholds and bands."""
    labels = sorted(histogram)
    if not labels:
        return ""
    width = (_WIDTH - _LEFT) / BINS
    most = max(sum(histogram[label][place] for label in labels) for place in range(BINS))
    parts = [*(_band(one) for one in limits), _grid(most)]
    for place in range(BINS):
        base = 0
        for label in labels:
            number = histogram[label][place]
            if number:
                shade = colour(label, Status.OK, labels, positives)
                told = f"{place / BINS:.2f} to {(place + 1) / BINS:.2f}, {printable(label)}: {number:,}"
                parts.append(_bar(_LEFT + place * width, width, _heights(base, number, most), shade, told))
                base += number
    parts += [_threshold(one) for one in limits]
    for tick in range(0, BINS + 1, 2):
        anchor = "end" if tick == BINS else "middle"
        parts.append(_label(_LEFT + tick * width, f"{tick / BINS:.1f}", anchor))
    return _svg(parts, "Scores of the results")


def spark(columns: Sequence[int]) -> list[tuple[float, float, float, float]]:
    """Return the bars of a small chart, 100 wide and 24 high: x, y, width and height of each."""
    most, width = max(columns, default=0) or 1, 100 / max(12, len(columns))
    return [
        (place * width, 24 - 24 * number / most, width * 0.8, 24 * number / most)
        for place, number in enumerate(columns)
    ]


def _band(limits: ScoreLimits) -> str:
    low, high = limits.uncertain_low, limits.uncertain_high
    if low is None or high is None or low >= high:
        return ""
    return (
        f'<rect class="band" x="{_across(low):.1f}" y="{_TOP}" width="{_across(high) - _across(low):.1f}"'
        f' height="{_HEIGHT - _BOTTOM - _TOP}"><title>uncertain: {low:.3f} to {high:.3f}</title></rect>'
    )


def _threshold(limits: ScoreLimits) -> str:
    if limits.threshold is None:
        return ""
    x = _across(limits.threshold)
    told = escape(f"{printable(limits.positive or '')} from {limits.threshold:.3f}")
    return (
        f'<line class="threshold" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}">'
        f"<title>{told}</title></line>"
    )


def _across(score: float) -> float:
    return _LEFT + min(1.0, max(0.0, score)) * (_WIDTH - _LEFT)


def _grid(most: int) -> str:
    y = _y(most, most)
    return (
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH}" y1="{_y(0, most):.1f}" y2="{_y(0, most):.1f}"/>'
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{most:,}</text>'
        f'<text x="{_LEFT - 6}" y="{_y(0, most):.1f}" text-anchor="end">0</text>'
    )


def _heights(base: int, number: int, most: int) -> tuple[float, float]:
    """Return where the part of a bar ends above and below that stands for `number` on top of `base`."""
    return _y(base + number, most), _y(base, most)


def _bar(x: float, width: float, heights: tuple[float, float], shade: str, told: str) -> str:
    top, bottom = heights
    return (
        f'<rect class="{shade}" x="{x + width * 0.06:.2f}" y="{top:.2f}" width="{width * 0.88:.2f}"'
        f' height="{max(0.5, bottom - top):.2f}"><title>{escape(told)}</title></rect>'
    )


def _label(x: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{escape(text)}</text>'


def _y(number: int, most: int) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * number / max(1, most)


def _svg(parts: Sequence[str], title: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img" aria-label="{title}">'
        + "".join(parts)
        + "</svg>"
    )
