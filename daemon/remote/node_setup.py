"""Make ready what a head's terms ask for: the weights it names, an engine, the setup of the lanes."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from config.errors import BtError, WeightsError
from config.files import atomic_write
from daemon.remote.terms import Computed, Terms
from daemon.workers.messages import WorkerSetup
from daemon.workers.setup import DEVICE_BATCH
from trainer.model.identity import MAX_BYTES, default_weights, weights_sha256

if TYPE_CHECKING:
    from daemon.remote.node import HeadWeights


def ready_for(
    terms: Terms, weights: HeadWeights, *, device: str, cache: Path, logger: logging.Logger
) -> tuple[Computed, WorkerSetup]:
    """Return what is computed with here, and the setup of the lanes; raise BtError if there is no engine."""
    from daemon.engines.cache import prepare_engine

    wanted = terms.computed
    file = _weights_file(weights, cache, logger)
    if device == "auto" and wanted.device == "cpu":
        device = "cpu"
    # OpenVINO finds its precision by what it was asked for: what the head has found is asked for here.
    prepared, _ = prepare_engine(file, device, wanted.precision, cache, logger)
    shared = prepared.device != "cpu"
    setup = WorkerSetup(
        prepared,
        terms.limits,
        DEVICE_BATCH if shared else terms.batch,
        terms.memory_bytes,
        heatmaps=terms.heatmaps,
        shared=shared,
        decode_seconds=terms.decode_seconds,
        request_seconds=terms.request_seconds,
    )
    return Computed.of(prepared), setup


def _weights_file(weights: HeadWeights, cache: Path, logger: logging.Logger) -> Path:
    """Return a file with exactly these weights: the shipped one, the cached one, or the head's."""
    kept = cache.resolve() / "weights" / f"{weights.sha256}.safetensors"
    for place in (default_weights(), kept):
        if _is_whole(place, weights.sha256):
            return place
    logger.info("the head sends the weights %s", weights.sha256[:8])
    kept.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(kept) as target:
        digest, size = hashlib.sha256(), 0
        while part := weights.read(size):
            size += len(part)
            if size > MAX_BYTES:
                raise WeightsError("the head sends more than weights can be")
            digest.update(part)
            target.write(part)
        if digest.hexdigest() != weights.sha256:
            raise WeightsError("the head sent other weights than it named", hint="see its disk")
    return kept


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        return weights_sha256(path) == sha256
    except BtError:
        return False
