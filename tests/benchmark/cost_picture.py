"""Picture of the cost model: images a second against cores, up to what one writer takes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape
from typing import Any

_WIDTH, _HEIGHT = 640, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 150, 16, 44
_CORES = (1, 1000)
_SPEEDS = (100, 20_000)
_TIMES = ((10**7, 86_400, "10⁷ in a day"), (10**7, 3600, "10⁷ in an hour"), (10**8, 86_400, "10⁸ in a day"))
_COLOURS = ("#1b6ca8", "#c05a1c", "#2f7d4f", "#7a4fa3")


def picture(told: dict[str, Any]) -> str:
    """Return an SVG of what `tests.benchmark.cost_model` measured; readable on light and dark pages."""
    return "\n".join(_lines(told)) + "\n"


def _lines(told: dict[str, Any]) -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
        ' font-family="sans-serif" font-size="12" fill="#222">'
    )
    yield "<title>Images a second against cores, up to what one writer takes</title>"
    yield f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>'
    yield from _axes()
    ceiling = told["ceiling_images_per_second"]
    for place, (colour, (name, kind)) in enumerate(zip(_COLOURS, told["kinds"].items(), strict=False)):
        lane_ms = kind["decode_cpu_ms"] + kind["forward_cpu_ms"]
        yield from _kind(lane_ms, ceiling, colour)
        y = _y(_SPEEDS[0]) - 58 + 18 * place
        yield _line((_x(40), y - 4), (_x(52), y - 4), colour, 'stroke-width="2"')
        yield f'<text x="{_x(58):.0f}" y="{y:.0f}">{escape(name)}: {1e3 / lane_ms:,.0f} a core</text>'
    yield (
        f'<text x="{_x(1.1):.0f}" y="{_y(ceiling) - 6:.0f}" font-weight="bold">'
        f"one writer: {ceiling:,} images/s</text>"
    )
    yield _line((_x(_CORES[0]), _y(ceiling)), (_x(_CORES[1]), _y(ceiling)), "#222", 'stroke-dasharray="6 4"')
    yield "</svg>"


def _axes() -> Iterator[str]:
    for cores in (1, 10, 100, 1000):
        yield _line((_x(cores), _y(_SPEEDS[0])), (_x(cores), _y(_SPEEDS[1])), "#ddd")
        yield f'<text x="{_x(cores):.0f}" y="{_HEIGHT - 26}" text-anchor="middle">{cores:,}</text>'
    for speed in (100, 1000, 10_000):
        yield _line((_x(_CORES[0]), _y(speed)), (_x(_CORES[1]), _y(speed)), "#ddd")
        yield f'<text x="{_LEFT - 6}" y="{_y(speed) + 4:.0f}" text-anchor="end">{speed:,}</text>'
    for images, seconds, words in _TIMES:
        y = _y(images / seconds)
        yield _line((_x(_CORES[1]), y), (_x(_CORES[1]) + 8, y), "#222")
        yield f'<text x="{_x(_CORES[1]) + 12:.0f}" y="{y + 4:.0f}">{words}</text>'
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    yield f'<text x="{middle:.0f}" y="{_HEIGHT - 8}" text-anchor="middle">cores, of all machines</text>'
    yield '<text transform="translate(14 180) rotate(-90)" text-anchor="middle">images a second</text>'


def _kind(lane_ms: float, ceiling: float, colour: str) -> Iterator[str]:
    """Yield the line of one kind of file, up to the ceiling, and a dot where it gets there."""
    begin = max(_CORES[0], _SPEEDS[0] * lane_ms / 1e3)
    enough = min(_CORES[1], ceiling * lane_ms / 1e3)
    start, stop = ((_x(cores), _y(cores * 1e3 / lane_ms)) for cores in (begin, enough))
    yield _line(start, stop, colour, 'stroke-width="2"')
    yield f'<circle cx="{stop[0]:.1f}" cy="{stop[1]:.1f}" r="3.5" fill="{colour}"/>'


def _line(start: tuple[float, float], stop: tuple[float, float], colour: str, more: str = "") -> str:
    place = f'x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{stop[0]:.1f}" y2="{stop[1]:.1f}"'
    return f'<line {place} stroke="{colour}" {more}/>'


def _x(cores: float) -> float:
    low, high = map(math.log10, _CORES)
    return _LEFT + (math.log10(cores) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)


def _y(speed: float) -> float:
    low, high = map(math.log10, _SPEEDS)
    return _HEIGHT - _BOTTOM - (math.log10(speed) - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)
