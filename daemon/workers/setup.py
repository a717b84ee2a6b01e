"""Worker setup: the engine, limits and number of workers that the settings ask for."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from config.errors import UsageError
from trainer.images.picture import limits_of

if TYPE_CHECKING:
    from config.settings import Settings
    from daemon.engines.manifest import PreparedEngine
    from daemon.workers.messages import WorkerSetup
    from trainer.model.spec import ModelSpec


# As `config.parse.lane_count` has "none".
NO_LANES = -1
# What a worker sends to a GPU at once: all slices of a volume, or all images of one message and more. The
# GPU takes what all workers have sent together.
DEVICE_BATCH = 64
# Of the time for one file that one request to an object store may take, with its repetition.
_REQUEST_SHARE = 0.4


def likely_engine(settings: Settings) -> str:
    """Return what workers should import before it is known for certain: a wrong guess costs a moment."""
    return "shared" if settings.device.startswith("cuda") else "openvino"


def ready_engine(settings: Settings, logger: logging.Logger) -> tuple[PreparedEngine, ModelSpec]:
    """Return the engine for the settings' weights, device and precision, and the model's spec."""
    from daemon.engines.cache import prepare_engine
    from daemon.foreign.adoption import model_file

    return prepare_engine(
        model_file(settings), settings.device, settings.precision, Path(settings.cache), logger
    )


def worker_setup(settings: Settings, prepared: PreparedEngine) -> WorkerSetup:
    """Return what a worker is told at its start."""
    from daemon.workers.messages import WorkerSetup

    shared = prepared.device != "cpu"  # contexts on a GPU are costly, and one large batch beats many small
    batch = DEVICE_BATCH if shared else max(1, settings.batch)
    return WorkerSetup(
        prepared,
        limits_of(settings),
        batch,
        settings.decode_memory,
        shared=shared,
        request_seconds=settings.decode_seconds * _REQUEST_SHARE,
    )


def worker_count(settings: Settings) -> int:
    """Return how many workers run: one per core this process may use, unless the settings say otherwise.

    Raises UsageError where the settings want none and there have to be some.
    """
    if settings.lanes == NO_LANES:
        raise UsageError(
            "--lanes none leaves nobody to judge here", hint="write a number, or 0: one per core"
        )
    return settings.lanes or len(os.sched_getaffinity(0))
