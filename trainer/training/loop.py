"""The training loop: read it from top to bottom.

AdamW without decay on norms and biases, linear warm-up then cosine, gradient clipping, label
smoothing, an average of the weights (Polyak and Juditsky 1992) that is what is judged and kept,
early stopping on the validation loss. Everything random is seeded by (seed, epoch), so an
interrupted run goes on exactly where it stopped.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention
from torch.optim.swa_utils import AveragedModel

from config.errors import BtError
from trainer.data.augment import augment
from trainer.data.batch import Batch
from trainer.data.lesions.lesion_mix import Lesions, mix_lesions
from trainer.data.training_set import TrainingSet
from trainer.evaluation.calibration import fit_shift
from trainer.evaluation.metrics import roc_auc
from trainer.images.arrays import Doubles, Grey
from trainer.networks.classifier import Classifier
from trainer.networks.inference import _autocast, predict
from trainer.training.allocator import keep_freed_memory
from trainer.training.checkpoint import Checkpoint, TrainingState
from trainer.training.config import Epoch, Listener, Plan, TrainingStart
from trainer.training.localisation_loss import localisation_loss

_WARM_UP_STEPS = 100
_MAX_NORM = 1.0
# The averaged weights follow the trained ones with a time constant of about this many steps.
_AVERAGE_STEPS = 200
# In the last quarter of the steps, at low rates, lesions are put into fewer of the tumour-free images: what
# the network says must fit images as they come. It costs unseen sources nothing (trainer/EXPERIMENTS.md).
_END, _AT_THE_END = 0.25, 0.3

_SAMPLE = 1 << 40  # the number of no epoch

TensorList = tuple[Tensor, ...] | list[Tensor]


@dataclass(frozen=True, slots=True)
class Trained:
    """What came out: the averaged weights of the best epoch are loaded into the network."""

    history: tuple[Epoch, ...]
    best_epoch: int
    stopped: str  # why it ended: "epochs", "patience", "time"


def fit(
    network: Classifier,
    data: TrainingSet,
    plan: Plan,
    device: torch.device,
    listener: Listener,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Train `network` in place and return its history; the best averaged weights are in it at the end.

    Raises BtError if the loss is no longer a number, UsageError if the checkpoint is another run's.
    """
    keep_freed_memory()
    network.to(device).to(memory_format=torch.channels_last)
    loop = TrainingLoop(network, data, plan, device, listener)
    state = loop.state
    if checkpoint is not None:
        checkpoint.load(plan, state)
    listener.started(loop.start())
    began = time.monotonic()
    stopped = ""
    while not (stopped := _why_stop(state.history, plan, time.monotonic() - began)):
        epoch = loop.epoch(len(state.history))
        state.history.append(epoch)
        is_best = _best_epoch(state.history) == epoch.epoch
        if is_best:
            state.best = _copy_of(state.averaged)
        if checkpoint is not None:
            checkpoint.save(plan, state)
        listener.finished_epoch(epoch, best=is_best)
    network.load_state_dict(state.best)
    network.eval()
    return Trained(tuple(state.history), _best_epoch(state.history), stopped)


class TrainingLoop:
    """One training: its state, and an epoch at a time."""

    def __init__(
        self, network: Classifier, data: TrainingSet, plan: Plan, device: torch.device, listener: Listener
    ) -> None:
        self._average = AveragedModel(network, multi_avg_fn=_follow, use_buffers=True)
        averaged = self._average.module
        optimiser = torch.optim.AdamW(_parameter_groups(network, plan), lr=plan.learning_rate)
        self.state = TrainingState(network, averaged, _copy_of(averaged), optimiser)
        self._data, self._plan, self._device, self._listener = data, plan, device, listener
        self._weights = _sampling_weights(data, plan)
        self._lesions = Lesions.of(plan.lesions, plan.pasted, plan.healed, plan.seams)
        self._few_lesions = Lesions.of(plan.lesions * _AT_THE_END, plan.pasted, plan.healed, plan.seams)
        self._batch, self._steps = plan.of_an_epoch(len(data.train))
        weights = data.class_weights
        self._class_weights = None if weights is None else torch.from_numpy(weights).to(device)

    def start(self) -> TrainingStart:
        """Return what is known before the first step."""
        return TrainingStart(
            tuple(self.state.history), self._plan.epochs, self._steps, self._batch, self._sample
        )

    def _sample(self, count: int) -> Grey:
        """Return pictures (n, channels, S, S) as the network gets them; no training step draws by them."""
        chance = np.random.default_rng((self._plan.seed, _SAMPLE))
        generator = torch.Generator().manual_seed(self._plan.seed)
        pictures = self._drawn(self._lesions, chance, generator).pictures
        # Spread over the batch, which is in the order of the files: else they were of one class.
        some = pictures[torch.linspace(0, len(pictures) - 1, min(count, len(pictures))).long()]
        return some.clamp(0, 255).to(torch.uint8).numpy()

    def epoch(self, number: int) -> Epoch:
        """Train for one epoch, then judge the averaged weights on the validation images."""
        began = time.monotonic()
        seed, steps = self._plan.seed * 100_003 + number, self._steps
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        rng = np.random.default_rng((self._plan.seed, number))
        loss_sum = hits = rate = 0.0
        self.state.network.train()
        for step in range(steps):
            done = number * steps + step
            rate = _learning_rate(self._plan, done, steps * self._plan.epochs)
            self._set_rate(rate)
            shares = self._lesions if done < (1 - _END) * steps * self._plan.epochs else self._few_lesions
            batch = self._drawn(shares, rng, generator)
            loss, accuracy = self.step(batch)
            # The copy that the average began with counts as the first of its terms.
            self._average.n_averaged.fill_(done + 1)
            self._average.update_parameters(self.state.network)
            loss_sum, hits = loss_sum + loss, hits + accuracy
            self._listener.stepped(number, step + 1, steps, loss_sum / (step + 1), hits / (step + 1))
        val_loss, val_accuracy, val_auc = _judge(self.state.averaged, self._data, self._device)
        epoch = Epoch(
            number + 1, round(time.monotonic() - began, 2), rate, loss_sum / steps, hits / steps,
            val_loss, val_accuracy, val_auc,
        )  # fmt: skip
        _refuse_divergence(epoch)
        return epoch

    def try_rate(self, rate: float, rng: np.random.Generator, generator: torch.Generator) -> float:
        """Make a step at this learning rate, beside any schedule; return its loss of the labels."""
        self._set_rate(rate)
        return self.step(self._drawn(self._lesions, rng, generator))[0]

    def _set_rate(self, rate: float) -> None:
        for group in self.state.optimiser.param_groups:
            group["lr"] = rate * group["share"]

    def _drawn(self, shares: Lesions, rng: np.random.Generator, generator: torch.Generator) -> Batch:
        """Return the next batch, with lesions mixed in and augmented, on the device."""
        data = self._data
        indices = np.sort(rng.choice(data.train, self._batch, p=self._weights))
        batch = data.batch(indices)
        batch = mix_lesions(batch, shares, data.negative, data.positive, generator)
        return augment(batch, generator)

    def step(self, batch: Batch) -> tuple[float, float]:
        """Make one step and return (loss of the labels, share of right answers).

        With `accumulate` the gradient is the sum of those of the batch's parts, each by its share of the
        loss: that of the batch as a whole, but for norms, which see a part at a time.
        """
        state, whole = self.state, self._weight_of(batch.labels)
        state.optimiser.zero_grad(set_to_none=True)
        loss = right = 0.0
        for part in batch.parts(self._plan.accumulate):
            share = self._weight_of(part.labels) / whole
            of_labels, hits = self._add_gradient(part.to(self._device), share)
            loss, right = loss + of_labels * share, right + hits
        nn.utils.clip_grad_norm_(state.network.parameters(), _MAX_NORM)
        state.optimiser.step()
        return loss, right / len(batch.labels)

    def _add_gradient(self, batch: Batch, share: float) -> tuple[float, float]:
        """Add the gradient of a batch's loss, times `share`; return (loss of the labels, right answers)."""
        network, labels = self.state.network, batch.labels
        with _autocast(labels.device, network):
            images = batch.pictures.contiguous(memory_format=torch.channels_last)
            (logits, _, _), lesions = network.localised(images)
        of_labels = F.cross_entropy(
            logits.float(), labels, self._class_weights, label_smoothing=self._plan.label_smoothing
        )
        loss = of_labels
        if lesions is not None:
            loss = loss + self._plan.localisation * localisation_loss(lesions, batch.maps, batch.known)
        (loss if share == 1 else loss * share).backward()  # type: ignore[no-untyped-call]
        return float(of_labels.detach()), float((logits.argmax(1) == labels).sum())

    def _weight_of(self, labels: Tensor) -> float:
        """Return what labels weigh together in the loss, whose mean is over these weights."""
        weights = self._data.class_weights
        return float(len(labels)) if weights is None else float(weights[labels.numpy()].sum())


def _refuse_divergence(epoch: Epoch) -> None:
    if not (math.isfinite(epoch.train_loss) and math.isfinite(epoch.val_loss)):
        raise BtError(
            f"the training diverged in epoch {epoch.epoch}: the loss is no longer a number",
            hint="train again with a smaller --lr",
        )


def _judge(averaged: nn.Module, data: TrainingSet, device: torch.device) -> tuple[float, float, float]:
    """Return loss, accuracy and AUC of the averaged weights on the validation images.

    With the head's biases set on these images, as they are at the end: balanced sampling and drawn lesions
    move them, which says nothing about how much was learnt.
    """
    logits, _ = predict(averaged, data.pictures[data.validation], device)
    labels = data.labels[data.validation]
    logits = logits + fit_shift(logits, labels)
    loss = float(F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)))
    auc = (
        roc_auc((logits[:, 1] - logits[:, 0]).astype(np.float64), labels)
        if logits.shape[1] == 2
        else float("nan")
    )
    return loss, float((logits.argmax(1) == labels).mean()), auc


def _sampling_weights(data: TrainingSet, plan: Plan) -> Doubles | None:
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


@torch.no_grad()
def _follow(averaged: TensorList, trained: TensorList, terms: Tensor | int) -> None:
    """Move the averaged weights towards the trained ones; the first ones count little.

    An exponential moving average as torch's `get_ema_multi_avg_fn`, whose constant decay would keep the
    random beginning in the weights for the first thousand steps: short trainings have no more.
    """
    count = int(terms)
    keep = min(1 - 1 / _AVERAGE_STEPS, count / (9 + count))
    if averaged[0].is_floating_point():
        torch._foreach_mul_(averaged, keep)
        torch._foreach_add_(averaged, trained, alpha=1 - keep)
    else:  # counts of batches
        torch._foreach_copy_(averaged, trained)


def _copy_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


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


def _why_stop(history: list[Epoch], plan: Plan, seconds: float) -> str:
    """Return why no further epoch is started, '' if one is."""
    if len(history) >= plan.epochs:
        return "epochs"
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
