"""Changes to training pictures that must not change the answer: whole batches, on tensors.

What differs between sources and says nothing about a tumour is varied most: skull or none, position,
size, brightness profile, coil shading, resolution, noise, burnt-in marks.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from trainer.data.batch import Batch
from trainer.data.colour.colour_jitter import blurred, covered, jittered, uniform


def augment(batch: Batch, generator: torch.Generator) -> Batch:
    """Return changed pictures, float32 (batch, 1 or 3, S, S) in 0..255, of uint8 ones; maps move with them.

    All chance comes from `generator`, so a seed gives the same pictures again. Of colour pictures nothing is
    known of heads: see `trainer.data.colour.colour_jitter`.
    """
    if batch.pictures.shape[1] > 1:
        return _augmented_colour(batch, generator)
    x, maps = _stripped(batch.pictures.float(), batch.maps, generator)
    x, maps = _moved(x, maps, generator)
    x = _coarser(x, generator) / 255
    x = _shaded(x, generator)
    x = _toned(x, generator)
    x = _noisy(x, generator)
    x = _covered(x, generator).clamp_(0, 1) * 255
    return replace(batch, pictures=x, maps=maps)


def _augmented_colour(batch: Batch, generator: torch.Generator) -> Batch:
    x, maps = _moved(batch.pictures.float(), batch.maps, generator)
    x = blurred(_coarser(x, generator) / 255, generator)
    x = _noisy(jittered(x, generator), generator)
    x = covered(x, generator).clamp_(0, 1) * 255
    return replace(batch, pictures=x, maps=maps)


def augmented(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Return uint8 pictures (n, 1 or 3, S, S) changed as in training, float32 in 0..255."""
    count, side = len(pictures), pictures.shape[-1] // 4
    unknown = torch.zeros(count, dtype=torch.bool)
    maps = torch.zeros(count, 1, side, side)
    return augment(Batch(pictures, torch.zeros(count, dtype=torch.long), maps, unknown), generator).pictures


def _stripped(x: Tensor, maps: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Peel skull and scalp off a quarter of the batch, roughly, and enlarge what is left to the frame.

    Sources without skulls may have only one class; then no skull would mean that class.
    """
    chosen = torch.rand(x.shape[0], generator=generator) < 0.25
    if not chosen.any():
        return x, maps
    side = x.shape[-1]
    depth = max(1, int(side * float(uniform(generator, 1, 0.04, 0.11))))
    whole = x[chosen]
    head = _grown((whole > 0.06 * 255).float(), side // 10)  # closes what is dark inside
    inner = 1 - _grown(1 - functional.pad(head, (depth,) * 4), side // 10 + depth)
    inner = inner[..., depth:-depth, depth:-depth]
    left = whole * functional.avg_pool2d(inner, 3, 1, 1)
    shrink = 1 - 2.8 * depth / side  # the margin round a head goes too
    rows = torch.tensor([[shrink, 0.0, 0.0], [0.0, shrink, 0.0]]).expand(len(left), 2, 3)
    x[chosen] = _resampled(left, rows)
    maps = maps.clone()
    maps[chosen] = _resampled(maps[chosen], rows)
    return x, maps


def _resampled(x: Tensor, rows: Tensor) -> Tensor:
    """Return each picture seen through its affine map (n, 2, 3), in a frame from -1 to 1; zero beyond."""
    grid = functional.affine_grid(rows, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _grown(mask: Tensor, by: int) -> Tensor:
    """Return the mask (batch, 1, S, S), not negative, grown by so many pixels on every side.

    The largest value of each square window: first along the rows, then along the columns, each time in
    ever larger strides. A pooling of such windows takes a thousand times as many comparisons.
    """
    for _ in range(2):
        grown = functional.pad(mask, (by, by))
        reach, window = 1, 2 * by + 1
        while reach < window:
            step = min(reach, window - reach)
            grown = torch.maximum(grown[..., :-step], grown[..., step:])
            reach += step
        mask = grown.transpose(-1, -2)
    return mask


def _moved(x: Tensor, maps: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Flip left and right, turn by up to 20 degrees, scale, stretch and shift, in one resampling."""
    count = x.shape[0]
    angle = uniform(generator, count, -0.35, 0.35)  # radians
    scale = torch.exp(uniform(generator, count, -0.2, 0.2))
    stretch = torch.exp(uniform(generator, count, -0.1, 0.1))
    flip = (torch.rand(count, generator=generator) < 0.5).float() * -2 + 1
    rows = torch.stack(
        (
            torch.stack(
                (
                    flip * scale * stretch * angle.cos(),
                    -scale * angle.sin(),
                    uniform(generator, count, -0.1, 0.1),
                ),
                1,
            ),
            torch.stack(
                (
                    flip * scale * angle.sin(),
                    scale / stretch * angle.cos(),
                    uniform(generator, count, -0.1, 0.1),
                ),
                1,
            ),
        ),
        dim=1,
    )  # (batch, 2, 3)
    return _resampled(x, rows), _resampled(maps, rows)


def _coarser(x: Tensor, generator: torch.Generator) -> Tensor:
    """Take a third of the batch down to a lower resolution and up again."""
    chosen = torch.rand(x.shape[0], generator=generator) < 0.33
    if not chosen.any():
        return x
    size = int(x.shape[-1] * float(uniform(generator, 1, 0.35, 0.85)))
    small = functional.interpolate(x[chosen], size=(size, size), mode="bilinear", antialias=True)
    x[chosen] = functional.interpolate(small, size=x.shape[-2:], mode="bilinear")
    return x


def _shaded(x: Tensor, generator: torch.Generator) -> Tensor:
    """Multiply by a smooth field, as a receiver coil does."""
    field = torch.randn(x.shape[0], 1, 3, 3, generator=generator) * 0.22
    return x * torch.exp(functional.interpolate(field, size=x.shape[-2:], mode="bicubic"))


def _toned(x: Tensor, generator: torch.Generator) -> Tensor:
    """Change gamma and contrast, and bend the middle tones of half the batch; black stays black."""
    gamma = torch.exp(uniform(generator, x.shape[0], -0.5, 0.5)).view(-1, 1, 1, 1)
    gain = uniform(generator, x.shape[0], 0.75, 1.25).view(-1, 1, 1, 1)
    # Tissues differ in order between sequences; |bend| below 1/3 keeps theirs, up to 0.5 flattens some.
    bend = uniform(generator, x.shape[0], -0.5, 0.5) * (torch.rand(x.shape[0], generator=generator) < 0.5)
    toned = x.clamp(1e-4, 1.5).pow(gamma) * gain
    return toned + bend.view(-1, 1, 1, 1) / 3 * torch.sin(2 * torch.pi * toned.clamp(0, 1))


def _noisy(x: Tensor, generator: torch.Generator) -> Tensor:
    amount = uniform(generator, x.shape[0], 0.0, 0.06) * (torch.rand(x.shape[0], generator=generator) < 0.5)
    return x + torch.randn(x.shape, generator=generator) * amount.view(-1, 1, 1, 1)


def _covered(x: Tensor, generator: torch.Generator) -> Tensor:
    """Cover rectangles (black or a flat grey) and write text-like bright specks into corners."""
    side = x.shape[-1]
    for number in range(x.shape[0]):
        chance = torch.rand(8, generator=generator).tolist()
        if chance[0] < 0.45:
            height, width = int(side * (0.06 + 0.2 * chance[1])), int(side * (0.06 + 0.2 * chance[2]))
            top, left = int((side - height) * chance[3]), int((side - width) * chance[4])
            x[number, 0, top : top + height, left : left + width] = chance[5] if chance[6] < 0.3 else 0.0
        if chance[7] < 0.25:
            _write_specks(x[number, 0], generator)
    return x


def _write_specks(picture: Tensor, generator: torch.Generator) -> None:
    side = picture.shape[-1]
    height, width = side // 32, side // 5
    top = 0 if float(uniform(generator, 1, 0, 1)) < 0.5 else side - height
    left = 0 if float(uniform(generator, 1, 0, 1)) < 0.5 else side - width
    specks = (torch.rand(height, width, generator=generator) < 0.35).float() * 0.9
    patch = picture[top : top + height, left : left + width]
    torch.maximum(patch, specks, out=patch)
