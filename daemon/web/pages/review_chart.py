"""Chart of measured shares with their intervals, as SVG, and a tick for what the model card says."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Protocol

# The drawing's own coordinates; narrow, so that its letters can be read on a phone.
_WIDTH, _ROW, _LEFT, _RIGHT, _BOTTOM = 340.0, 26.0, 84.0, 12.0, 20.0


class MeasuredShare(Protocol):
    """A share of 0..1, as far as it is drawn."""

    @property
    def figure(self) -> str: ...  # noqa: D102
    @property
    def value(self) -> float: ...  # noqa: D102
    @property
    def low(self) -> float: ...  # noqa: D102
    @property
    def high(self) -> float: ...  # noqa: D102
    @property
    def card(self) -> float | None: ...  # noqa: D102
    @property
    def differs(self) -> str | None: ...  # noqa: D102


def review_chart(shares: Sequence[MeasuredShare]) -> str:
    """Return a line with a dot for each share, over 0 to 100 %; "" without any."""
    if not shares:
        return ""
    height = _ROW * len(shares) + _BOTTOM
    parts = [_tick(percent, height) for percent in (0, 50, 100)]
    for number, one in enumerate(shares):
        parts.append(_share(one, (number + 0.5) * _ROW))
    return (
        f'<svg class="chart shares" viewBox="0 0 {_WIDTH:.0f} {height:.0f}" role="img" '
        'aria-label="Shares of the random sample with their 95 % intervals">' + "".join(parts) + "</svg>"
    )


def _tick(percent: int, height: float) -> str:
    x, bottom = _across(percent / 100), height - _BOTTOM
    anchor = "end" if percent == 100 else "middle"
    return (
        f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{bottom:.1f}"/>'
        f'<text x="{x:.1f}" y="{height - 5:.1f}" text-anchor="{anchor}">{percent} %</text>'
    )


def _share(one: MeasuredShare, y: float) -> str:
    shade = "interval is-lower" if one.differs == "lower" else "interval"
    told = f"{one.figure}: {one.value:.1%} ({one.low:.1%} to {one.high:.1%})"
    card = ""
    if one.card is not None:
        x = _across(one.card)
        told += f"; the card says {one.card:.1%}"
        card = f'<line class="threshold" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 9:.1f}" y2="{y + 9:.1f}"/>'
    return (
        f'<g class="{shade}"><title>{escape(told)}</title>'
        f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(one.figure)}</text>'
        f'<line x1="{_across(one.low):.1f}" x2="{_across(one.high):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<circle cx="{_across(one.value):.1f}" cy="{y:.1f}" r="4"/>{card}</g>'
    )


def _across(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)
