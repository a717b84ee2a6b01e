"""The engine through torch: CUDA, and the fall-back where there is no OpenVINO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from daemon.engines.base import EngineOutput
from daemon.engines.manifest import PreparedEngine
from daemon.engines.rows import Layout
from daemon.engines.torch_cuda import CudaPass
from trainer.images.arrays import Floats, Grey, planes
from trainer.model.weights import read_weights
from trainer.networks.loading import load

# On a GPU every shape is prepared once, so batches are filled up to one of few sizes.
_CUDA_SIZES = (1, 8, 32, 64, 128, 256, 512)
# On a CPU more at once only leaves the caches.
_CPU_BATCH = 64


class TorchEngine:
    """The network in evaluation mode, batch norms folded, channels last."""

    def __init__(
        self,
        prepared: PreparedEngine,
        *,
        maps: bool = True,
        remark: Callable[[str], None] | None = None,
    ) -> None:
        """Open the network.

        `maps=False` leaves the maps out of the rows; `remark` is told what goes otherwise than it should.
        """
        self._device = torch.device(prepared.device)
        self._bf16 = prepared.precision == "bf16"
        self._maps = maps
        self._remark = remark or (lambda _: None)
        self._passes: dict[int, CudaPass] = {}
        self._sizes = list(_CUDA_SIZES) if self._device.type == "cuda" else [_CPU_BATCH]
        self._set_up_device()
        weights = read_weights(Path(prepared.weights))
        self._preprocessing = weights.spec.preprocessing
        self._network = folded(load(weights)).to(self._device).to(memory_format=torch.channels_last)
        self._shape = self._measured_shape()

    @property
    def layout(self) -> Layout:
        """The largest batch and what a row is made of."""
        return Layout(self._sizes[-1], self._preprocessing.input_shape, *self._shape)

    def warm_up(self) -> None:
        """Prepare every batch size now, the largest first; those the device has no memory for are given up.

        What is captured needs no more memory later: other programs on the device cannot take it away.
        """
        while self._device.type == "cuda" and len(self._passes) < len(self._sizes):
            size = next(size for size in reversed(self._sizes) if size not in self._passes)
            try:
                self._pass_for(size)
            except torch.OutOfMemoryError:
                if size == self._sizes[0]:
                    raise
                self._sizes.remove(size)
                torch.cuda.empty_cache()
                self._remark(f"{self._device} has no memory left for batches of {size} images")

    def run(self, batch: Grey) -> EngineOutput:
        """Return what the network says of pictures (batch, S, S[, 3]) uint8."""
        most = self._sizes[-1]
        rows = [self.rows([batch[start : start + most]]).copy() for start in range(0, len(batch), most)]
        return self.layout.split(np.concatenate(rows))

    @torch.inference_mode()
    def rows(self, parts: Sequence[Grey]) -> Floats:
        """Return one row (see `daemon.engines.rows`) per picture of parts (n, S, S[, 3]), in their order.

        At most `layout.batch` pictures; the rows are valid until the next call.
        """
        if self._device.type == "cuda":
            return self._pass_for(sum(map(len, parts))).run(parts)
        rows: Floats = self._compute(torch.from_numpy(planes(np.concatenate(parts)))).numpy()
        return rows

    @torch.inference_mode()
    def _pass_for(self, count: int) -> CudaPass:
        size = next(size for size in self._sizes if size >= count)
        if size not in self._passes:
            self._passes[size] = CudaPass(
                self._compute, size, self._preprocessing, self._device, self._remark
            )
        return self._passes[size]

    def _compute(self, pictures: Tensor) -> Tensor:
        """Return rows (batch, row length) float32 of pictures (batch, 1 or 3, S, S) on the device."""
        # No cache of converted weights: it would hand one graph tensors that belong to another.
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._bf16, cache_enabled=False):
            logits, features, maps = self._network(pictures.contiguous(memory_format=torch.channels_last))
        return torch.cat([logits, features, *([maps.flatten(1)] if self._maps else [])], dim=1)

    @torch.inference_mode()
    def _measured_shape(self) -> tuple[int, int, int, int]:
        side, channels = self._preprocessing.image_size, self._preprocessing.channels
        blank = torch.zeros((1, channels, side, side), dtype=torch.uint8, device=self._device)
        logits, features, maps = self._network(blank)
        height, width = maps.shape[2:] if self._maps else (0, 0)
        return logits.shape[1], features.shape[1], height, width

    def _set_up_device(self) -> None:
        if self._device.type != "cuda":
            torch.set_num_threads(1)
            return
        torch.cuda.set_device(self._device)
        backends: Any = torch.backends  # has attributes that its types do not know
        backends.cudnn.benchmark = True  # shapes are few and fixed: trying the kernels out pays
        # Otherwise "fp32" would be computed with 10 bits of mantissa (TF32).
        backends.cudnn.conv.fp32_precision = "ieee"
        backends.cuda.matmul.fp32_precision = "ieee"


def folded(network: nn.Module) -> nn.Module:
    """Fold every batch norm into the convolution before it, in place; the outputs stay the same."""
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential):
            for place in range(len(module) - 1):
                one, other = module[place], module[place + 1]
                if isinstance(one, nn.Conv2d) and isinstance(other, nn.BatchNorm2d):
                    module[place] = fuse_conv_bn_eval(one, other)
                    module[place + 1] = nn.Identity()
    return network
