"""Inference in torch: logits and features of many pictures, batch by batch."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import nn

from config.errors import DeviceError, UsageError
from config.text import printable
from trainer.images.arrays import Floats, Grey, planes
from trainer.model.probes import probes
from trainer.model.reference import Reference
from trainer.model.spec import Preprocessing
from trainer.networks.classifier import Classifier

_AT_ONCE = 8


@torch.no_grad()
def predict(
    network: nn.Module, pictures: Grey, device: torch.device, batch: int = 128
) -> tuple[Floats, Floats]:
    """Return logits (n, classes) and features (n, d), float32, of pictures (n, S, S[, 3]) uint8."""
    network.eval()
    if isinstance(network, Classifier):
        network.fold()
    logits, features = [], []
    for start in range(0, len(pictures), batch):
        # copied: a memory map is read-only, which torch warns of
        x = torch.from_numpy(planes(np.array(pictures[start : start + batch]))).to(device)
        with _autocast(device, network):
            scores, described, _ = network(x.contiguous(memory_format=torch.channels_last))
        logits.append(scores.float().cpu().numpy())
        features.append(described.float().cpu().numpy())
    network.eval()  # no longer folded: weights may change
    return np.concatenate(logits), np.concatenate(features)


@torch.inference_mode()
def reference_of(network: nn.Module, preprocessing: Preprocessing) -> Reference:
    """Return what a network says of the probe pictures (64, S, S[, 3]), in float32, where it lies.

    Features are rounded to float16, if it holds them: half the bytes in the file, and no more than half of
    what may differ.
    """
    network.eval()
    device = next(network.parameters()).device
    pictures = probes(preprocessing.image_size, preprocessing.channels)
    said = [network(torch.from_numpy(planes(batch)).to(device)) for batch in in_batches(pictures)]
    logits, features, maps = (torch.cat(values).cpu().numpy() for values in zip(*said, strict=True))
    narrow = features.astype(np.float16).astype(np.float32)
    features = narrow if np.isfinite(narrow).all() else features
    return Reference(logits, features, maps.mean(axis=(2, 3)))


def in_batches(pictures: Grey) -> list[Grey]:
    """Return pictures (n, S, S[, 3]) a few at a time: more take gigabytes, and are slower on a processor."""
    return [pictures[at : at + _AT_ONCE] for at in range(0, len(pictures), _AT_ONCE)]


def _autocast(device: torch.device, network: nn.Module) -> torch.autocast:
    """Compute in bfloat16 where that is faster; in float32 elsewhere and with --deterministic."""
    exact = torch.are_deterministic_algorithms_enabled()
    on_cpu = _has_bf16() and not getattr(network, "float32_on_cpu", False)
    fast = not exact and (device.type == "cuda" or on_cpu)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast)


@functools.cache
def _has_bf16() -> bool:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as stream:
            flags = next((line for line in stream if line.startswith("flags")), "")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def pick_device(wanted: str) -> torch.device:
    """Return the device for auto, cpu or cuda[:N]; raise DeviceError when it is not there."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise UsageError(
            f"{printable(repr(wanted))} is no device", hint="write auto, cpu or cuda[:N]"
        ) from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"there is no {printable(wanted)} here (torch finds {torch.cuda.device_count()} CUDA devices)",
            hint="use --device cpu",
        )
    return device
