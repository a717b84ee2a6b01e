"""One forward pass on a GPU at a fixed batch size: everything that can be made beforehand is.

Pinned memory on both sides lets the copies run without the CPU; a captured graph starts the whole
network with one call instead of some hundred (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from trainer.images.arrays import Floats, Grey, planes
from trainer.model.spec import Preprocessing

_cuda: Any = torch.cuda  # not everything there has types
# A graph must be captured after libraries have set themselves up and chosen their kernels.
_WARM_UPS = 3


class CudaPass:
    """Copies in, network, copy out, for up to `size` pictures; belongs to one thread."""

    def __init__(
        self,
        compute: Callable[[Tensor], Tensor],
        size: int,
        preprocessing: Preprocessing,
        device: torch.device,
        remark: Callable[[str], None],
    ) -> None:
        """`compute` makes rows of pictures (size, 1 or 3, S, S). Raises torch.OutOfMemoryError."""
        shape = (size, preprocessing.channels, preprocessing.image_size, preprocessing.image_size)
        self._compute = compute
        self._staged = torch.zeros(shape, dtype=torch.uint8, pin_memory=True)
        self._pictures = torch.zeros(shape, dtype=torch.uint8, device=device)
        self._stream: torch.cuda.Stream = _cuda.Stream(device)
        self._stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UPS):
                rows = compute(self._pictures)
        self._stream.synchronize()
        self._back = torch.zeros(rows.shape, dtype=torch.float32, pin_memory=True)
        self._graph, self._rows = self._captured(remark)

    def run(self, parts: Sequence[Grey]) -> Floats:
        """Return the rows of all pictures of the parts (n, S, S[, 3]); they are valid until the next call."""
        count = self._stage(parts)
        with torch.cuda.stream(self._stream):
            # A byte per pixel crosses the bus; scaling happens on the device, inside the network. What
            # lies behind `count` is an earlier batch's and harms nobody: rows do not know each other.
            self._pictures[:count].copy_(self._staged[:count], non_blocking=True)
            if self._graph is not None:
                self._graph.replay()
            else:
                self._rows = self._compute(self._pictures)
            self._back[:count].copy_(self._rows[:count], non_blocking=True)
        self._stream.synchronize()
        rows: Floats = self._back[:count].numpy()
        return rows

    def _stage(self, parts: Sequence[Grey]) -> int:
        staged = self._staged.numpy()
        count = 0
        for part in parts:
            staged[count : count + len(part)] = planes(part)
            count += len(part)
        return count

    def _captured(self, remark: Callable[[str], None]) -> tuple[torch.cuda.CUDAGraph | None, Tensor]:
        """Return the graph and where it leaves its rows; no graph if this network cannot be captured."""
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                rows = self._compute(self._pictures)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = (str(error).splitlines() or ["no reason given"])[0]
            remark(f"no CUDA graph for batches of {len(self._pictures)} ({reason}): computed without one")
            return None, torch.empty(0)
        return graph, rows
