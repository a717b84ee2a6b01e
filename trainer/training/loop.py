"""The training loop: read it from top to bottom.

AdamW without decay on norms and biases, linear warm-up then cosine, gradient clipping, label
smoothing, an average of the weights (Polyak and Juditsky 1992) that is what is judged and kept,
early stopping on the validation loss. Everything random is seeded by (seed, epoch), so an
interrupted run goes on exactly where it stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from config.errors import BtError
from trainer.data.augment import augment
from trainer.data.synthetic_lesions import draw_lesions
from trainer.data.training_set import TrainingSet
from trainer.evaluation.calibration import fit_shift
from trainer.evaluation.metrics import roc_auc
from trainer.images.arrays import Doubles, Ints
from trainer.networks.inference import _autocast, predict
from trainer.training.allocator import keep_freed_memory
from trainer.training.checkpoint import Checkpoint
from trainer.training.config import Epoch, Listener, Plan

_WARM_UP_STEPS = 100
_MAX_NORM = 1.0
# The averaged weights follow the trained ones with a time constant of about this many steps.
_AVERAGE_STEPS = 200


@dataclass(frozen=True, slots=True)
class Trained:
    """What came out: the averaged weights of the best epoch are loaded into the network."""

    history: tuple[Epoch, ...]
    best_epoch: int
    stopped: str  # why it ended: "epochs", "patience", "time"


def fit(
    network: nn.Module,
    data: TrainingSet,
    plan: Plan,
    device: torch.device,
    listener: Listener,
    *,
    checkpoint: Checkpoint | None = None,
    resume: bool = False,
    setting: Mapping[str, Any] | None = None,
) -> Trained:
    """Train `network` in place and return its history; the best averaged weights are in it at the end.

    `setting` says what besides the plan must be the same for a checkpoint to be gone on from
    (architecture, data); its values are JSON.
    """
    setting = asdict(plan) | dict(setting or {})
    keep_freed_memory()
    network.to(device).to(memory_format=torch.channels_last)
    averaged = {name: value.clone() for name, value in network.state_dict().items()}
    best = {name: value.clone() for name, value in averaged.items()}
    optimiser = torch.optim.AdamW(_parameter_groups(network, plan), lr=plan.learning_rate)
    history: list[Epoch] = []
    if resume and checkpoint is not None and checkpoint.exists():
        history = [Epoch(**row) for row in checkpoint.load(setting, network, averaged, best, optimiser)]
    chances = _chances(data, plan)
    began = time.monotonic()
    stopped = "epochs"
    for number in range(len(history), plan.epochs):
        if stopped_early := _should_stop(history, plan, time.monotonic() - began):
            stopped = stopped_early
            break
        row = _epoch(network, averaged, optimiser, data, chances, plan, device, listener, number)
        history.append(row)
        if not (math.isfinite(row.train_loss) and math.isfinite(row.val_loss)):
            raise BtError(
                f"the training diverged in epoch {row.epoch}: the loss is no longer a number",
                hint="train again with a smaller --lr",
            )
        is_best = _best_epoch(history) == row.epoch
        if is_best:
            best = {name: value.clone() for name, value in averaged.items()}
        if checkpoint is not None:
            checkpoint.save(setting, network, averaged, best, optimiser, [asdict(row) for row in history])
        listener.finished_epoch(row, best=is_best)
    network.load_state_dict(best)
    network.eval()
    return Trained(tuple(history), _best_epoch(history), stopped)


def _epoch(
    network: nn.Module,
    averaged: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    data: TrainingSet,
    chances: Doubles | None,
    plan: Plan,
    device: torch.device,
    listener: Listener,
    number: int,
) -> Epoch:
    """Train for one epoch, then judge the averaged weights on the validation pictures."""
    began = time.monotonic()
    torch.manual_seed(plan.seed * 100_003 + number)
    draw_from = torch.Generator().manual_seed(plan.seed * 100_003 + number)
    order = np.random.default_rng((plan.seed, number))
    batch, steps = plan.of_an_epoch(len(data.train))
    loss_sum = hits = 0.0
    network.train()
    rate = plan.learning_rate
    for step in range(steps):
        rate = _learning_rate(plan, number * steps + step, plan.epochs * steps)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["share"]
        places = np.sort(order.choice(data.train, batch, p=chances))
        pictures, labels = draw_lesions(
            _batch(data, places), torch.from_numpy(data.labels[places]), plan.lesions,
            data.negative, data.positive, draw_from,
        )  # fmt: skip
        changed = augment(pictures, draw_from).to(device)
        loss, right = _step(network, optimiser, changed, labels.to(device), plan)
        _average(averaged, network, number * steps + step)
        loss_sum, hits = loss_sum + loss, hits + right
        listener.stepped(number, step + 1, steps, loss_sum / (step + 1), hits / (step + 1))
    val_loss, val_accuracy, val_auc = _judge(network, averaged, data, device)
    return Epoch(
        number + 1, round(time.monotonic() - began, 2), rate, loss_sum / steps, hits / steps,
        val_loss, val_accuracy, val_auc,
    )  # fmt: skip


def _step(
    network: nn.Module, optimiser: torch.optim.Optimizer, pictures: Tensor, labels: Tensor, plan: Plan
) -> tuple[float, float]:
    """Make one step and return (loss, share of right answers)."""
    with _autocast(pictures.device, network):
        logits = network(pictures.contiguous(memory_format=torch.channels_last))[0]
    loss = F.cross_entropy(logits.float(), labels, label_smoothing=plan.label_smoothing)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), _MAX_NORM)
    optimiser.step()
    return float(loss.detach()), float((logits.argmax(1) == labels).float().mean())


def _judge(
    network: nn.Module, averaged: dict[str, Tensor], data: TrainingSet, device: torch.device
) -> tuple[float, float, float]:
    """Return loss, accuracy and AUC of the averaged weights on the validation pictures.

    With the head's biases set on these pictures, as they are at the end: balanced sampling and drawn lesions
    move them, which says nothing about how much was learnt.
    """
    trained = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(averaged)
    logits, _ = predict(network, data.pictures[data.validation], device)
    network.load_state_dict(trained)
    labels = data.labels[data.validation]
    logits = logits + fit_shift(logits, labels)
    loss = float(F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)))
    auc = (
        roc_auc((logits[:, 1] - logits[:, 0]).astype(np.float64), labels)
        if logits.shape[1] == 2
        else float("nan")
    )
    return loss, float((logits.argmax(1) == labels).mean()), auc


def _batch(data: TrainingSet, places: Ints) -> Tensor:
    return torch.from_numpy(data.pictures[places])[:, None]  # (batch, 1, S, S) uint8


def _chances(data: TrainingSet, plan: Plan) -> Doubles | None:
    """Return how likely each training picture is drawn, so that classes weigh the same.

    With "source-label" the sources within a class weigh by the square root of their size: a source of
    thirty images is neither drowned nor learnt by heart. Where lesions are drawn, negatives come more often
    by their share: half of the way to balance, for real tumours must stay frequent too.
    """
    balance = plan.balance
    if balance == "none":
        return None
    labels, sources = data.labels[data.train], data.sources[data.train]
    weights = np.ones(len(labels))
    for label in np.unique(labels):
        here = labels == label
        if balance == "source-label":
            counts = np.bincount(sources[here])
            weights[here] = 1 / np.sqrt(counts[sources[here]])
        weights[here] *= (1 + plan.lesions * (label == data.negative)) / weights[here].sum()
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def _learning_rate(plan: Plan, step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / min(_WARM_UP_STEPS, max(1, steps // 5)))
    return plan.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / steps))


def _average(averaged: dict[str, Tensor], network: nn.Module, step: int) -> None:
    keep = min(1 - 1 / _AVERAGE_STEPS, (1 + step) / (10 + step))
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            averaged[name].mul_(keep).add_(value, alpha=1 - keep)
        else:
            averaged[name].copy_(value)


def _parameter_groups(network: nn.Module, plan: Plan) -> list[dict[str, Any]]:
    """Divide the parameters into those that decay and those that do not, of the head and of the body."""
    groups: list[dict[str, Any]] = [
        {"params": [], "weight_decay": decay, "share": share}
        for share in (1.0, plan.body_rate)
        for decay in (plan.weight_decay, 0.0)
    ]
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        groups[2 * name.startswith("body.") + (parameter.ndim <= 1)]["params"].append(parameter)
    return groups


def _should_stop(history: list[Epoch], plan: Plan, seconds: float) -> str:
    """Return why no further epoch is started, '' if one is."""
    if history and len(history) - _best_epoch(history) >= plan.patience > 0:
        return "patience"
    if plan.max_minutes and history:
        longest = max(row.seconds for row in history)
        if seconds + longest > plan.max_minutes * 60:
            return "time"
    return ""


def _best_epoch(history: list[Epoch]) -> int:
    """Return the epoch of the smallest validation loss, the earliest among equals; 0 without any."""
    return min(history, key=lambda row: row.val_loss).epoch if history else 0
