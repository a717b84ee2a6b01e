"""Learning-rate range test (Smith 2017): the loss while the rate rises, and the rate to train with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d

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
# Where the mean loss of so many steps is so many times its least, the test ends.
_RECENT, _LOST = 5, 4.0
_SIGMA = 5.0  # steps, of the smoothing
_CLEAR = 0.05  # a loss that falls by less than this share of itself tells little
_FEWEST = 20  # steps without which nothing can be said


def find_learning_rate(config: RunConfig, reporter: Reporter) -> float:
    """Return the learning rate that suits a run, two digits of it, and draw what was seen of others.

    A hundred steps of the network that the training would start from, each with a rate higher by the same
    factor; none of it is kept. Raises BtError where the loss never falls.
    """
    experiment, _ = divided_experiment(config, reporter)
    reporter.say(f"trying {_STEPS} learning rates from {_LOWEST:g} to {_HIGHEST:g}")
    rates, losses = _range_test(experiment, experiment.new_network(), reporter)
    smooth = smoothed(losses)
    place, fall = steepest(smooth)
    chosen = float(f"{rates[place]:.1e}")
    path = config.output / PICTURE
    draw_learning_rates(rates, losses, smooth, chosen, path)
    reporter.say(f"learning rate {chosen:g}, where the loss falls fastest (see {printable(str(path))})")
    if fall < _CLEAR:
        reporter.say(f"warning: the loss fell by {fall:.0%} only, which says little; the default is 0.002")
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
        recent = sum(losses[-_RECENT:]) / _RECENT
        least = min(least, recent) if len(losses) >= _RECENT else math.inf
        if recent > _LOST * least:
            break
    return rates, losses


def smoothed(losses: Sequence[float]) -> list[float]:
    """Return the losses smoothed by a Gaussian, which does not lag.

    What diverges counts no more than twice the loss of the beginning.
    """
    first = float(np.mean(losses[:_RECENT])) if losses else 0.0
    held = np.minimum(np.asarray(losses, dtype=np.float64), 2 * first)
    values: list[float] = gaussian_filter1d(held, _SIGMA, mode="nearest").tolist() if losses else []
    return values


def steepest(smooth: Sequence[float]) -> tuple[int, float]:
    """Return the place where smoothed losses fall fastest on their way to the least, and how far they fall.

    The fall is a share of the highest before. fastai's `valley`, the longest subsequence that falls, took
    rates five to ten times as small on the noisy losses of two small collections. Raises BtError where the
    loss never falls.
    """
    least = int(np.argmin(smooth)) if smooth else 0
    if len(smooth) < _FEWEST or not least:
        raise BtError("no learning rate made the loss fall", hint="give --lr 0.002, or look at the images")
    place = int(np.argmin(np.gradient(np.asarray(smooth))[: least + 1]))
    top = max(smooth[: least + 1])
    return place, (top - smooth[least]) / top
