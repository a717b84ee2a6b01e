"""`bt-train models`: every architecture, what it costs, how fast it is here."""

from __future__ import annotations

from collections.abc import Iterator

import click


@click.command("models")
@click.option(
    "--image-size", default=256, show_default=True, type=click.IntRange(32, 1024), help="Input side, pixels."
)
@click.option("--measure/--no-measure", default=True, help="Measure images per second here.")
def command(image_size: int, measure: bool) -> None:
    """List the architectures with their parameters, cost and speed on this machine.

    \b
    Example:
      bt-train models --no-measure
    """  # noqa: D301 - click wants the character
    for line in _model_list(image_size, measure=measure):
        click.echo(line)


def _model_list(image_size: int, *, measure: bool) -> Iterator[str]:
    """Yield a table of the architectures, line by line as they are measured (torch, float32, eager)."""
    from trainer.networks.cost import gflops, images_per_second, parameters
    from trainer.networks.registry import ARCHITECTURES, build

    speed = "  images/s here" if measure else ""
    yield f"{'name':<20} {'parameters':>11} {'GFLOP/image':>12}{speed}  what it is"
    for name, entry in ARCHITECTURES.items():
        network = build(name, 2).eval()
        rate = f"{images_per_second(network, image_size):>15.0f}" if measure else ""
        cost = gflops(network, image_size)
        yield f"{name:<20} {parameters(network):>11,} {cost:>12.2f}{rate}  {entry.description}"
