"""`bt-train models`: every architecture, what it costs, how fast it is here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import click

from config.paths import cache_folder

_NAME = "speeds.json"


@click.command("models")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--image-size", default=256, show_default=True, type=click.IntRange(32, 1024), help="Input side, pixels."
)
@click.option(
    "--measure/--no-measure",
    default=None,
    help="Measure images per second here, all or none; by default what was not measured before.",
)
def command(names: tuple[str, ...], image_size: int, measure: bool | None) -> None:
    """List the architectures with their parameters, cost and speed on this machine.

    Speeds are measured once and kept in the cache folder. Networks of timm are listed by name.

    \b
    Examples:
      bt-train models
      bt-train models timm:convnext_atto timm:resnet18 --image-size 224
    """  # noqa: D301 - click wants the character
    for line in _model_list(names, image_size, measure):
        click.echo(line)


def _model_list(names: tuple[str, ...], image_size: int, measure: bool | None) -> Iterator[str]:
    """Yield a table of the architectures, line by line as they are measured (torch, float32, eager)."""
    from trainer.model.spec import Preprocessing
    from trainer.networks.cost import gflops, images_per_second, parameters
    from trainer.networks.registry import ARCHITECTURES, build, registered

    kept = _KeptSpeeds(cache_folder() / _NAME)
    shown = names or tuple(ARCHITECTURES)
    width = max(20, *map(len, shown))
    yield f"{'name':<{width}} {'parameters':>11} {'GFLOP/image':>12}  images/s here  what it is"
    for name in shown:
        entry = registered(name)
        network = build(name, 2, None, Preprocessing(image_size=image_size)).eval()
        speed = None if measure else kept.get(name, image_size)
        if speed is None and measure is not False:
            speed = images_per_second(network, image_size)
            kept.keep(name, image_size, speed)
        rate = f"{'-':>15}" if speed is None else f"{speed:>15.0f}"
        cost = gflops(network, image_size)
        yield f"{name:<{width}} {parameters(network):>11,} {cost:>12.2f}{rate}  {entry.description}"


class _KeptSpeeds:
    """Images per second by network, size and what they depend on here, in a file that may be lost."""

    def __init__(self, place: Path) -> None:
        import torch

        self._place = place
        self._here = f"torch {torch.__version__}, {torch.get_num_threads()} threads"
        self._speeds: dict[str, float] = {}
        try:
            told = json.loads(place.read_text(encoding="utf-8"))
            self._speeds = {str(name): float(speed) for name, speed in told.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            pass  # measured again

    def get(self, name: str, image_size: int) -> float | None:
        return self._speeds.get(self._key(name, image_size))

    def keep(self, name: str, image_size: int, speed: float) -> None:
        self._speeds[self._key(name, image_size)] = round(speed, 1)
        self._place.parent.mkdir(parents=True, exist_ok=True)
        part = self._place.with_name(f".{self._place.name}.{os.getpid()}")
        part.write_text(json.dumps(self._speeds, indent=1, sort_keys=True), encoding="utf-8")
        part.replace(self._place)

    def _key(self, name: str, image_size: int) -> str:
        return f"{name}, {image_size} px, {self._here}"
