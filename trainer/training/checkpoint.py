"""An interrupted training goes on from here: everything of an epoch's end, in one file, no pickle."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from config.errors import UsageError
from config.text import printable

_KEY = "bt_daemon.training.2"  # the number changes with what is stored
# What may differ on resume: when to stop, not what is trained.
_MAY_CHANGE = frozenset({"epochs", "max_minutes", "patience"})


class Checkpoint:
    """The training state beside the weights that are being made."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def exists(self) -> bool:
        """Whether there is something to go on from."""
        return self.path.is_file()

    def save(
        self,
        setting: dict[str, Any],
        network: nn.Module,
        averaged: dict[str, Tensor],
        best: dict[str, Tensor],
        optimiser: torch.optim.Optimizer,
        history: list[dict[str, Any]],
    ) -> None:
        """Write the state atomically: a crash leaves the one of the epoch before."""
        tensors = {
            f"{part}.{name}": value
            for part, values in (("network", network.state_dict()), ("averaged", averaged), ("best", best))
            for name, value in values.items()
        }
        for number, state in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{name}": torch.as_tensor(value) for name, value in state.items()}
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        save_file(tensors, temporary, {_KEY: json.dumps({"setting": setting, "history": history})})
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(self.path)

    def load(
        self,
        setting: dict[str, Any],
        network: nn.Module,
        averaged: dict[str, Tensor],
        best: dict[str, Tensor],
        optimiser: torch.optim.Optimizer,
    ) -> list[dict[str, Any]]:
        """Put everything back and return the history; raise UsageError if it is another run's."""
        shown = printable(str(self.path))
        try:
            with safe_open(self.path, framework="pt") as stream:
                stored = json.loads((stream.metadata() or {})[_KEY])
                differing = [
                    name
                    for name, value in setting.items()
                    if name not in _MAY_CHANGE and stored["setting"].get(name) != value
                ]
                tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise UsageError(f"cannot resume from {shown}", hint="train without --resume") from error
        if differing:
            raise UsageError(
                f"{shown} was trained with another {', '.join(name.replace('_', ' ') for name in differing)}",
                hint="give the same options as before, or train without --resume",
            )
        network.load_state_dict(_part(tensors, "network."))
        for target, part in ((averaged, "averaged."), (best, "best.")):
            for name, value in _part(tensors, part).items():
                target[name].copy_(value)
        _restore_optimiser(optimiser, _part(tensors, "optimiser."))
        history: list[dict[str, Any]] = stored["history"]
        return history


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
