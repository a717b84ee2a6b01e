"""Engine manifest: what passes between processes about an engine. Imports nothing slow."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled network in the engine's folder."""

    file: str
    precision: str  # "fp32" or "bf16"
    batch: int  # images at once, the quickest way here


@dataclass(frozen=True, slots=True)
class ErrorBound:
    """By how much an engine may be off on any image."""

    logits: float  # the difference between two logits, divided by the temperature
    distance: float  # the distance to the training images; 0 without a limit


@dataclass(frozen=True, slots=True)
class PreparedEngine:
    """Everything a process needs to open the engine."""

    kind: str  # "openvino" or "torch"
    device: str  # "cpu" or "cuda:N"
    precision: str  # "fp32" or "bf16"
    weights: str  # path
    weights_sha256: str  # hex
    folder: str  # of the compiled form, "" without one
    why: str  # how engine and precision came to be picked
    network: Compiled | None = None  # None for torch, and for OpenVINO where nothing could be kept
    # What computes the images again whose answer `network` could change, and by how much it may be off.
    exact: Compiled | None = None
    slack: ErrorBound | None = None
