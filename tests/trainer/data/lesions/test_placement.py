"""Lesions are placed in the head, in its middle, next to the skull and at its base, in any picture."""

from __future__ import annotations

import torch

from trainer.data.lesions.placement import depth_in, draw_offsets, enlarged, head_masks

SIDE, COUNT = 96, 2000


def _disc(x: float, y: float, wide: float, tall: float, side: int = SIDE) -> torch.Tensor:
    """The same head, an ellipse of grey 120 in air, COUNT times: (COUNT, 1, side, side) float."""
    places = torch.arange(side, dtype=torch.float32)
    inside = ((places.view(1, -1) - x) / wide).square() + ((places.view(-1, 1) - y) / tall).square() < 1
    return (inside.float() * 120).expand(COUNT, 1, side, side)


def _centres(head: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    across, along = draw_offsets(head, SIDE, torch.Generator().manual_seed(0))
    return -across[:, 0, 0, 0], -along[:, 0, 0, 0]


def test_every_centre_lies_in_the_head() -> None:
    head, _ = head_masks(_disc(40, 50, 28, 36))

    x, y = _centres(head)

    assert bool(head[torch.arange(COUNT), 0, y.long() // 4, x.long() // 4].all())


def test_middle_rim_and_base_get_more_centres_than_their_area() -> None:
    head, _ = head_masks(_disc(48, 48, 40, 44))
    x, y = _centres(head)
    right, down = (x - 48) / 40, (y - 48) / 44
    area = torch.pi  # of the unit disc that the head is in these units

    outwards = (right.square() + down.square()).sqrt()
    near_middle = float((outwards < 0.3).float().mean())
    next_to_skull = float((outwards > 0.72).float().mean())
    at_the_base = float(((right.abs() < 0.7) & (down > 0.4) & (down < 0.8)).float().mean())

    assert near_middle > 1.8 * 0.3**2
    assert next_to_skull > 0.15  # none when centres lie a tenth of the side inside
    assert at_the_base > 1.2 * (1.4 * 0.4 / area)


def test_a_picture_without_a_head_is_survived() -> None:
    x, y = _centres(torch.zeros(COUNT, 1, SIDE // 4, SIDE // 4))

    assert 0 <= float(x.min()) <= float(x.max()) < SIDE
    assert 0 <= float(y.min()) <= float(y.max()) < SIDE


def test_a_lesion_shows_inside_and_never_in_the_air() -> None:
    picture = _disc(80, 80, 66, 73, 160)[:1]
    head, _ = head_masks(picture)

    shown = enlarged(depth_in(head), 160)

    assert float(shown[0, 0, 80, 80]) == 1
    assert not shown[picture == 0].any()
    assert 0.6 < float(shown.sum() / (picture > 0).sum()) < 0.95
