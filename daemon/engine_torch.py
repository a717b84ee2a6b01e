"""The engine through torch: CUDA, and the fall-back where there is no OpenVINO."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from daemon.engine import EngineOutput, PreparedEngine
from trainer.networks import load
from trainer.weights import read_weights

# On a GPU every new shape is prepared anew, so batches are filled up to one of few sizes.
_SIZES = (1, 8, 32, 128, 512)


class TorchEngine:
    """The network in evaluation mode, batch norms folded, channels last."""

    def __init__(self, prepared: PreparedEngine) -> None:
        self._device = torch.device(prepared.device)
        self._cuda = self._device.type == "cuda"
        self._bf16 = prepared.precision == "bf16"
        if not self._cuda:
            torch.set_num_threads(1)
        network = folded(load(read_weights(Path(prepared.weights))))
        self._network = network.to(self._device).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run(self, batch: npt.NDArray[np.uint8]) -> EngineOutput:
        """Return what the network says of pictures (batch, S, S) uint8."""
        count = len(batch)
        pictures = torch.from_numpy(np.ascontiguousarray(batch[:, None]))  # (batch, 1, S, S)
        if self._cuda:
            size = next((size for size in _SIZES if size >= count), count)
            padded = torch.zeros((size, *pictures.shape[1:]), dtype=torch.uint8, pin_memory=True)
            padded[:count] = pictures
            # A byte per pixel crosses the bus; scaling happens on the device, inside the network.
            pictures = padded.to(self._device, non_blocking=True)
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._bf16):
            logits, features, maps = self._network(pictures.contiguous(memory_format=torch.channels_last))
        return EngineOutput(*(value[:count].float().cpu().numpy() for value in (logits, features, maps)))


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
