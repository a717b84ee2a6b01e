"""Chart of a series as SVG: the score of each slice, in their order."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from config.text import printable
from daemon.output.cells import confidence_text
from daemon.web.pages.charts import colour

if TYPE_CHECKING:
    from storage.queries.series_rows import SliceRow

_WIDTH, _HEIGHT = 640.0, 150.0  # of the drawing's own coordinates; it scales with the page
_LEFT, _BOTTOM, _TOP = 30.0, 22.0, 8.0
_WIDEST = 80.0  # bar
_LEAST = 1.5  # height of a bar, so that a score of nothing is seen, too


def slices_chart(slices: Sequence[SliceRow], positive: str | None, chosen_id: int | None = None) -> str:
    """Return a bar for each slice that has a score, as high as that, in the colour of its class.

    Each links to the page of its file; the viewer marks the one it shows, at first the file `chosen_id`.
    """
    labels = sorted({one.label for one in slices if one.label is not None})
    width = min(_WIDEST, (_WIDTH - _LEFT) / max(1, len(slices)))
    parts = [_line(level) for level in (0.0, 0.5, 1.0)]
    for place, one in enumerate(slices):
        if one.score is None:
            continue
        shade = colour(one.label, one.status, labels, [] if positive is None else [positive])
        height = max(_LEAST, one.score * (_HEIGHT - _BOTTOM - _TOP))
        told = f"{place + 1}: score {confidence_text(one.score)}, {printable(one.label or one.status.value)}"
        x = _LEFT + place * width
        here = ' class="is-here"' if one.file_id == chosen_id else ""
        # The whole height can be clicked. Not each in the way of the Tab key: the slider has them all.
        parts.append(
            f'<a href="/image/{one.file_id}" data-file="{one.file_id}" tabindex="-1"{here}>'
            f"<title>{escape(told)}</title>"
            f'<rect class="reach" x="{x:.2f}" y="{_TOP}" width="{width:.2f}" height="{_y(0) - _TOP:.2f}"/>'
            f'<rect class="{shade}" x="{x + 0.08 * width:.2f}" y="{_y(0) - height:.2f}"'
            f' width="{width * 0.84:.2f}" height="{height:.2f}"/></a>'
        )
    parts += [_tick(_LEFT, "1", "start"), _tick(_LEFT + len(slices) * width, f"{len(slices):,}", "end")]
    return (
        f'<svg class="chart of-slices" viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="group"'
        f' aria-label="Scores of the slices by position">{"".join(parts)}</svg>'
    )


def _line(level: float) -> str:
    kind = "grid" if level else "axis"
    return (
        f'<line class="{kind}" x1="{_LEFT}" x2="{_WIDTH}" y1="{_y(level):.1f}" y2="{_y(level):.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{_y(level) + 4:.1f}" text-anchor="end">{level:g}</text>'
    )


def _tick(x: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{text}</text>'


def _y(score: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * score
