"""An interrupted training goes on from here: everything of an epoch's end, in one file, no pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from config.errors import UsageError
from config.text import printable
from trainer.networks.classifier import Classifier
from trainer.training.config import Epoch, Plan

_KEY = "bt_daemon.training.2"  # the number changes with what is stored
# What may differ on resume: when to stop, not what is trained.
_MAY_CHANGE = frozenset({"epochs", "max_minutes", "patience"})


@dataclass(slots=True)
class TrainingState:
    """Everything that changes while a network is trained; between epochs it can be stored."""

    network: Classifier
    averaged: nn.Module  # the same network with averaged weights: what is judged and kept
    best: dict[str, Tensor]  # the averaged weights of the best epoch so far
    optimiser: torch.optim.Optimizer
    history: list[Epoch] = field(default_factory=list)


class Checkpoint:
    """The training state beside the weights that are being made.

    `setting` says what besides the plan must be the same for the state to be gone on from (architecture,
    data); its values are JSON. With `resume` a training goes on from the file, if there is one.
    """

    def __init__(self, path: Path, setting: Mapping[str, Any] | None = None, *, resume: bool = False) -> None:
        self.path = path
        self._setting = dict(setting or {})
        self._resume = resume

    def save(self, plan: Plan, state: TrainingState) -> None:
        """Write the state atomically: a crash leaves the one of the epoch before."""
        tensors = {
            f"{part}.{name}": value
            for part, values in (
                ("network", state.network.state_dict()),
                ("averaged", state.averaged.state_dict()),
                ("best", state.best),
            )
            for name, value in values.items()
        }
        for number, moments in state.optimiser.state_dict()["state"].items():
            tensors |= {
                f"optimiser.{number}.{name}": torch.as_tensor(value) for name, value in moments.items()
            }
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        stored = {
            "setting": asdict(plan) | self._setting,
            "history": [asdict(epoch) for epoch in state.history],
        }
        save_file(tensors, temporary, {_KEY: json.dumps(stored)})
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(self.path)

    def load(self, plan: Plan, state: TrainingState) -> None:
        """Put everything back where it was asked to and there is a file.

        Raises UsageError if the file is another run's or damaged.
        """
        if not (self._resume and self.path.is_file()):
            return
        shown = printable(str(self.path))
        try:
            with safe_open(self.path, framework="pt") as stream:
                stored = json.loads((stream.metadata() or {})[_KEY])
                # What was no part of the plan when it was stored was done as by default.
                before = asdict(Plan()) | stored["setting"]
                differing = [
                    name
                    for name, value in (asdict(plan) | self._setting).items()
                    if name not in _MAY_CHANGE and before.get(name) != value
                ]
                tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise UsageError(f"cannot resume from {shown}", hint="train without --resume") from error
        if differing:
            raise UsageError(
                f"{shown} was trained with another {', '.join(name.replace('_', ' ') for name in differing)}",
                hint="give the same options as before, or train without --resume",
            )
        state.network.load_state_dict(_part(tensors, "network."))
        state.averaged.load_state_dict(_part(tensors, "averaged."))
        for name, value in _part(tensors, "best.").items():
            state.best[name].copy_(value)
        _restore_optimiser(state.optimiser, _part(tensors, "optimiser."))
        state.history = [Epoch(**row) for row in stored["history"]]


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, _, field = name.partition(".")
        state.setdefault(int(number), {})[field] = value
    whole = optimiser.state_dict()
    whole["state"] = state
    optimiser.load_state_dict(whole)
