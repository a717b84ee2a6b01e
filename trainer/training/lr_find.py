"""Learning-rate range test (Smith 2017): the loss while the rate rises, and the rate to train with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from config.errors import BtError
from config.text import printable
from trainer.evaluation.plots import draw_learning_rates
from trainer.networks.classifier import Classifier
from trainer.training.config import Reporter, RunConfig
from trainer.training.loop import TrainingLoop
from trainer.training.prepare import Experiment
from trainer.training.run import divided_experiment

PICTURE = "lr_find.png"
_STEPS = 100
_LOWEST, _HIGHEST = 1e-6, 1.0
# The loss is smoothed by a moving average; where it is so many times its least, the test ends.
_KEEP, _LOST = 0.9, 4.0
_FEWEST = 10  # steps without which nothing can be said


def find_learning_rate(config: RunConfig, reporter: Reporter) -> float:
    """Return the learning rate that suits a run, two digits of it, and draw what was seen of others.

    A hundred steps of the network that the training would start from, each with a rate higher by the same
    factor; none of it is kept. Raises BtError where the loss never falls.
    """
    experiment, _ = divided_experiment(config, reporter)
    reporter.say(f"trying {_STEPS} learning rates from {_LOWEST:g} to {_HIGHEST:g}")
    rates, losses = _range_test(experiment, experiment.new_network(), reporter)
    smooth = smoothed(losses)
    chosen = float(f"{rates[valley(smooth)]:.1e}")
    path = config.output / PICTURE
    draw_learning_rates(rates, losses, smooth, chosen, path)
    reporter.say(f"learning rate {chosen:g}, as the loss falls there (see {printable(str(path))})")
    return chosen


def _range_test(
    experiment: Experiment, network: Classifier, reporter: Reporter
) -> tuple[list[float], list[float]]:
    device = experiment.device
    network.to(device).to(memory_format=torch.channels_last)
    plan = replace(experiment.plan, epochs=1)
    loop = TrainingLoop(network, experiment.training_set, plan, device, reporter)
    torch.manual_seed(plan.seed)
    chance, generator = np.random.default_rng(plan.seed), torch.Generator().manual_seed(plan.seed)
    network.train()
    rates: list[float] = []
    losses: list[float] = []
    least = math.inf
    for rate in np.geomspace(_LOWEST, _HIGHEST, _STEPS).tolist():
        loss = loop.try_rate(rate, chance, generator)
        if not math.isfinite(loss):
            break
        rates.append(rate)
        losses.append(loss)
        now = smoothed(losses)[-1]
        least = min(least, now)
        if now > _LOST * least:
            break
    return rates, losses


def smoothed(losses: Sequence[float]) -> list[float]:
    """Return an exponential moving average, without the bias of its beginning (as in Adam)."""
    mean, values = 0.0, []
    for number, loss in enumerate(losses, start=1):
        mean = _KEEP * mean + (1 - _KEEP) * loss
        values.append(mean / (1 - _KEEP**number))
    return values


def valley(losses: Sequence[float]) -> int:
    """Return the place in the longest fall of the loss where fastai's `valley` takes the rate: at half of it.

    The longest fall is the longest subsequence that decreases; unlike the steepest step it is not one of
    noise. Raises BtError if there is none.
    """
    lengths, before = [1] * len(losses), [-1] * len(losses)
    for late in range(len(losses)):
        for early in range(late):
            if losses[late] < losses[early] and lengths[early] >= lengths[late]:
                lengths[late], before[late] = lengths[early] + 1, early
    end = int(np.argmax(lengths)) if lengths else -1
    places = []
    while end >= 0:
        places.append(end)
        end = before[end]
    if len(losses) < _FEWEST or len(places) < _FEWEST:
        raise BtError("no learning rate made the loss fall", hint="give --lr 0.002, or look at the images")
    return places[len(places) // 2]
