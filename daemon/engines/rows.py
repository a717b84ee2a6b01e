"""The memory that a worker and the engine's process share: pictures one way, rows of numbers the other.

A row is everything the network says of one picture: logits, features, maps, one after the other. So
one copy brings a batch's answers back from a device, and one more puts a worker's share where it reads.
"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass

import numpy as np

from daemon.engines.base import EngineOutput
from trainer.images.arrays import Floats, Grey

_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Layout:
    """How many pictures fit, and what a row is made of."""

    batch: int  # pictures
    picture: tuple[int, ...]  # the shape of one: (S, S), in colour (S, S, 3)
    classes: int
    channels: int
    map_height: int  # 0: no maps
    map_width: int

    @property
    def row_length(self) -> int:
        """How many numbers a row has."""
        return self.classes + self.channels + self.classes * self.map_height * self.map_width

    @property
    def bytes(self) -> int:
        """How much memory holds a batch and its rows."""
        return self.batch * (self.row_length * _FLOAT_BYTES + math.prod(self.picture))

    def split(self, rows: Floats) -> EngineOutput:
        """Return what rows (n, row_length) say, as views."""
        features = self.classes + self.channels
        maps = rows[:, features:].reshape(len(rows), self.classes, self.map_height, self.map_width)
        return EngineOutput(rows[:, : self.classes], rows[:, self.classes : features], maps)


class SharedBatch:
    """One batch in memory that two processes map; who may write is said by messages, not by locks."""

    def __init__(self, layout: Layout, descriptor: int) -> None:
        memory = mmap.mmap(descriptor, layout.bytes)
        # Rows first: numbers of four bytes must lie at multiples of four.
        self.rows: Floats = np.ndarray((layout.batch, layout.row_length), np.float32, memory)
        self.pictures: Grey = np.ndarray((layout.batch, *layout.picture), np.uint8, memory, self.rows.nbytes)
