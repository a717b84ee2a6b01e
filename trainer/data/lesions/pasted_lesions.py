"""Real tumours pasted into tumour-free heads, and seams that say nothing.

A tumour, cut out by its mask or box, keeps the texture that no drawing has, and its place, its source and
its head no longer tell the answer: "CutPaste" (Li et al. 2021), "Foreign patch interpolation" (Tan et al.
2020) and, for real tumours between patients, "TumorCP" (Yang et al. 2021). Healthy tissue goes through the
same blending as often as a parameter says, with its label unchanged.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from trainer.data.batch import Batch, changed
from trainer.data.lesions.blending import blended, grown, soft_cover, with_tones_of
from trainer.data.lesions.chance import Chance
from trainer.data.lesions.placement import depth_in, draw_offsets, enlarged, head_masks, tones
from trainer.data.lesions.synthetic_lesions import push_aside

Offsets = tuple[Tensor, Tensor]  # each pixel's distance from a centre: (n, 1, 1, S) and (n, 1, S, 1)

# Radii that a pasted lesion gets at least, as a share of the picture's side, and at most, of the head's.
_SMALLEST, _LARGEST = 0.045, 0.5
_BRIGHT = 170.0  # grey values from here on are bent
_STEADY = 4.0  # grey values: pictures almost without contrast are not blown up
_LEAST_AREA = 0.003  # of the picture: what shows less is no lesion
_STRONGEST = 0.15  # the same for what is sewn in without a lesion, at most
_FAINTEST = 0.28  # the mean difference from what was there, as a share of the tissue's grey


def paste_lesions(
    batch: Batch, donors: Batch, share: float, negative: int, positive: int, generator: torch.Generator
) -> Batch:
    """Return a batch in which a share of the negatives have a donor's lesion, are positives and have its map.

    `donors` are uint8 pictures with known maps that are not empty (a box as the ellipse in it); a donor is
    drawn for each host. Few hosts are too small for the lesion and stay as they are. What is given is
    left as it is; all chance comes from `generator`.
    """
    negatives = torch.nonzero(batch.labels == negative).flatten()
    chosen = negatives[torch.rand(len(negatives), generator=generator) < share]
    if not len(chosen) or not len(donors.labels):
        return batch
    picks = torch.randint(len(donors.labels), (len(chosen),), generator=generator)
    pictures, cover = _with_lesion(
        batch.pictures[chosen].float(), donors.pictures[picks].float(), donors.maps[picks], generator
    )
    shown = cover.mean((1, 2, 3)) > _LEAST_AREA
    return changed(batch, chosen[shown], pictures[shown], positive, functional.avg_pool2d(cover, 4)[shown])


def _with_lesion(
    hosts: Tensor, donors: Tensor, maps: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the hosts (n, 1, S, S) with the donors' lesions, and where these cover them."""
    chance = Chance(len(hosts), generator)
    head, deep = head_masks(hosts)
    donor_head, donor_deep = head_masks(donors)
    side = hosts.shape[-1]
    # A box, or its ellipse, may hold skull and scalp: no part of a lesion.
    donor_inner = depth_in(donor_head, 0.7, 0.9)
    shown = enlarged(depth_in(head), side)
    offsets = draw_offsets(head, side, generator)
    radius = (maps.sum((2, 3), keepdim=True) / math.pi).sqrt() * (side / maps.shape[-1])
    scale = _scale(radius, head, side, chance)
    piece, shares = _carried(donors, maps * donor_inner, offsets, scale, chance)
    cover = soft_cover(shares, chance.even(0.05, 0.3), chance.even(0.5, 0.9)) * shown
    distance = (offsets[0].square() + offsets[1].square()).sqrt() / (radius * scale)
    pushed = blended(hosts, push_aside(hosts, offsets, distance, chance.even(0.0, 0.25)), shown)
    tissue = tones(hosts, deep)
    piece = _toned(piece, tones(donors, donor_deep * (maps < 0.05)), tissue, chance)
    piece = _visible(_within_range(piece, tissue[0]), pushed, cover, tissue[0])
    return blended(pushed, piece, cover), cover


def _scale(radius: Tensor, head: Tensor, side: int, chance: Chance) -> Tensor:
    """Return how much larger the lesion becomes, so that it can be seen and the host has room for it."""
    room = (head.mean((2, 3), keepdim=True) / math.pi).sqrt() * side
    wanted = radius * chance.of_any_size(0.7, 1.4)
    wanted = torch.minimum(wanted.clamp(min=_SMALLEST * side), _LARGEST * room + 1)
    return wanted / radius.clamp(min=1)


def _carried(
    donors: Tensor, maps: Tensor, offsets: Offsets, scale: Tensor, chance: Chance
) -> tuple[Tensor, Tensor]:
    """Return the donors' pictures and maps (n, 1, S, S), flipped, turned and scaled, at the hosts' places."""
    side, cells = donors.shape[-1], maps.shape[-1]
    turn, flip = chance.even(-0.8, 0.8), chance.sign()
    places = (torch.arange(cells, dtype=torch.float32) + 0.5) * 2 / cells - 1
    weight = maps.sum((2, 3), keepdim=True).clamp(min=1e-6)
    x = (maps * places.view(1, 1, 1, -1)).sum((2, 3), keepdim=True) / weight
    y = (maps * places.view(1, 1, -1, 1)).sum((2, 3), keepdim=True) / weight
    across, along = (offset * (2 / side) / scale for offset in offsets)
    grid = torch.cat(
        (
            x + flip * (across * turn.cos() + along * turn.sin()),
            y + along * turn.cos() - across * turn.sin(),
        ),
        dim=1,
    ).permute(0, 2, 3, 1)  # (n, S, S, 2)
    return _sampled(donors, grid), _sampled(maps, grid)


def _sampled(pictures: Tensor, grid: Tensor) -> Tensor:
    return functional.grid_sample(pictures, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _toned(
    pieces: Tensor, donor: tuple[Tensor, Tensor], host: tuple[Tensor, Tensor], chance: Chance
) -> Tensor:
    """Map the donor's tissue to the host's; sometimes with more contrast, less, or turned to the other side.

    What is bright in one sequence is dark in another.
    """
    # Bright tissue leaves no room above it.
    turned = torch.where(host[0] > _BRIGHT, 0.5, 0.12)
    gain = (
        ((host[1] + _STEADY) / (donor[1] + _STEADY)).clamp(0.4, 2.5)
        * chance.of_any_size(0.75, 1.4)
        * chance.sign(turned)
    )
    return host[0] + (pieces - donor[0]) * gain


def _visible(pieces: Tensor, hosts: Tensor, cover: Tensor, tissue: Tensor) -> Tensor:
    """Lift or lower what differs too little from what was there: unseen lesions teach to see too much."""
    area = cover.sum((2, 3), keepdim=True) + 1e-6
    difference = (pieces - hosts) * cover
    seen = difference.abs().sum((2, 3), keepdim=True) / area
    way = torch.sign(difference.sum((2, 3), keepdim=True))
    return pieces + way * (_FAINTEST * tissue - seen).clamp(min=0)


def _within_range(pieces: Tensor, tissue: Tensor) -> Tensor:
    """Bend bright and dark tones towards white and a fluid's grey, not beyond: the texture stays.

    Nothing in a head is as black as air but bone and air.
    """
    fluid, dark = 0.15 * tissue, 0.6 * tissue
    over, under = (pieces - _BRIGHT).clamp(min=0), (dark - pieces).clamp(min=0)
    bent_over, bent_under = over / (1 + over / (255 - _BRIGHT)), under / (1 + under / (dark - fluid + 1e-6))
    return pieces - over + bent_over + under - bent_under


def add_seams(batch: Batch, share: float, negative: int, generator: torch.Generator) -> Batch:
    """Return a batch in which a share of the pictures with a known map have healthy tissue sewn in.

    From another place of the same head or from the same place of another tumour-free head of the batch, in a
    blob of a lesion's shape, away from lesions: whatever the blending leaves is in both classes. Labels and
    maps stay.
    """
    known = torch.nonzero(batch.known).flatten()
    chosen = known[torch.rand(len(known), generator=generator) < share]
    negatives = torch.nonzero(batch.labels == negative).flatten()
    if not len(chosen) or not len(negatives):
        return batch
    others = negatives[torch.randint(len(negatives), (len(chosen),), generator=generator)]
    own = (batch.labels[chosen] == negative) & (torch.rand(len(chosen), generator=generator) < 0.5)
    others = torch.where(own, chosen, others)
    hosts = batch.pictures[chosen].float()
    pictures = batch.pictures.clone()
    sewn = _with_seam(hosts, batch.pictures[others].float(), batch.maps[chosen], own, generator)
    pictures[chosen] = sewn.round().clamp(0, 255).to(torch.uint8)
    return replace(batch, pictures=pictures)


def _with_seam(
    hosts: Tensor, others: Tensor, maps: Tensor, own: Tensor, generator: torch.Generator
) -> Tensor:
    chance = Chance(len(hosts), generator)
    side = hosts.shape[-1]
    head, deep = head_masks(hosts)
    across, along = draw_offsets(head, side, generator)
    # Far enough to be another place; nearly the same place of another head.
    away = torch.where(own.view(-1, 1, 1, 1), chance.even(0.08, 0.22), chance.even(0.0, 0.04))
    towards, places = chance.even(0, 2 * math.pi), (torch.arange(side) + 0.5) * 2 / side - 1
    x = (places.view(1, 1, 1, -1) + 2 * away * towards.cos()).expand(-1, -1, side, -1)
    y = (places.view(1, 1, -1, 1) + 2 * away * towards.sin()).expand(-1, -1, -1, side)
    grid = torch.cat((x, y), 1).permute(0, 2, 3, 1)  # (n, S, S, 2)
    piece, piece_deep = _sampled(others, grid), _sampled(head_masks(others)[1], grid)
    stretch = torch.exp(chance.even(-0.3, 0.3))
    distance = ((across / stretch).square() + (along * stretch).square()).sqrt()
    distance = distance / (side * chance.of_any_size(_SMALLEST, 0.15)) + chance.field(side, 9) * 0.2
    free = enlarged(deep * (grown(maps, 1) == 0), side)
    cover = soft_cover(1.5 - distance, 0.0, chance.even(0.5, 0.9)) * piece_deep * free
    piece = with_tones_of(hosts, piece, cover, head)
    return blended(hosts, _subtle(piece, hosts, cover, tones(hosts, deep)[0]), cover)


def _subtle(pieces: Tensor, hosts: Tensor, cover: Tensor, tissue: Tensor) -> Tensor:
    """Take the mean difference away and limit what is left: a hole or a bright spot is no healthy tissue."""
    area = cover.sum((2, 3), keepdim=True) + 1e-6
    difference = pieces - hosts
    difference = difference - (difference * cover).sum((2, 3), keepdim=True) / area
    seen = (difference.abs() * cover).sum((2, 3), keepdim=True) / area
    return hosts + difference * (_STRONGEST * tissue / (seen + 1e-6)).clamp(max=1)
