"""Work of a worker process: read, decode, infer and judge, a small batch at a time.

It is done in a process of its own (`daemon.workers.worker_main`): whatever a decoder does to it (hang, eat
memory, die), the daemon lives on. A bad image is data: it becomes an outcome, and the batch goes on.
"""

from __future__ import annotations

import gc
import math
import mmap
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from daemon.engines.base import Engine
from daemon.engines.factory import open_engine
from daemon.engines.manifest import PreparedEngine
from daemon.heatmaps.heatmap_files import HeatmapFiles
from daemon.process import limit_memory, return_free_memory
from daemon.store.source_reader import read_source
from daemon.workers.messages import NO_TASK, PROGRESS, Known, Task, WorkerSetup
from storage.ledger.result_cache import KnownJudgements
from storage.pseudonyms import pseudonym
from storage.records import Failed, FailureKind, Judged, Outcome, SeriesKeys, Status
from trainer.images.arrays import Floats, Grey
from trainer.images.decode import decode
from trainer.images.picture import Membership, Picture, PictureError
from trainer.model.aggregate import combine
from trainer.model.prediction import Prediction, distance_tensors, judge
from trainer.model.preprocess import preprocess
from trainer.model.spec import ModelSpec
from trainer.model.weights import Tensors, Weights, read_weights


def _open(prepared: PreparedEngine, weights: Weights) -> Engine:
    """Return the engine; one that was kept nowhere, and so compared with nothing, is compared now."""
    engine = open_engine(prepared)
    if not prepared.folder:
        from daemon.engines.reference_check import check_reference

        check_reference(weights, engine)
    return engine


class Worker:
    """Judges batches with one engine; the state is the engine and what it needs."""

    def __init__(self, setup: WorkerSetup, progress: mmap.mmap, engine: Engine | None = None) -> None:
        """Open what is needed; without an `engine` the worker opens one of its own."""
        self._progress = progress
        self._limits = setup.limits
        self._batch = setup.batch
        self._request_seconds = setup.request_seconds
        self._mark(NO_TASK)
        weights = read_weights(Path(setup.prepared.weights))
        self._spec: ModelSpec = weights.spec
        self._tensors: Tensors = distance_tensors(weights.tensors)
        self._engine: Engine = engine or _open(setup.prepared, weights)
        self._engine.run(np.zeros((1, *self._spec.preprocessing.input_shape), dtype=np.uint8))
        self._heatmaps = HeatmapFiles(setup.heatmaps, self._spec, weights.sha256) if setup.heatmaps else None
        self._known: KnownJudgements | None = None
        self._secret = b""
        # What exists now lives as long as the worker: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        return_free_memory()
        limit_memory(setup.memory_bytes)

    def remember(self, known: Known) -> None:
        """Take over answers that are known already instead of inferring the same bytes again."""
        self._secret = known.secret
        # Such an answer has no map; who asks for heatmaps gets one for every image.
        if self._heatmaps is None and known.database:
            self._known = KnownJudgements(known.database, known.model_id)

    def work(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Return one outcome per task, in their order."""
        items = [_Item(index, task) for index, task in enumerate(tasks)]
        for item in items:
            began = self._mark(item.index)
            item.answer = self._read(item)
            item.spent_ns = time.monotonic_ns() - began
        began = self._mark(NO_TASK)
        slices = [(item, image) for item in items for image in item.images]
        for start in range(0, len(slices), self._batch):
            self._infer(slices[start : start + self._batch])
        outcomes = [(item, item.answer or self._conclude(item)) for item in items]
        slice_ns = (time.monotonic_ns() - began) // max(1, len(slices))
        return [
            Outcome(
                item.task.file_id,
                answer,
                item.sha256,
                (item.spent_ns + slice_ns * len(item.images)) // 1000,
            )
            for item, answer in outcomes
        ]

    def _read(self, item: _Item) -> Judged | Failed | None:
        """Read, decode and preprocess a file; return its answer if there is one already, else None."""
        task = item.task
        try:
            content = read_source(
                task.path,
                self._limits,
                (task.size, task.mtime_ns, task.inode),
                progress=lambda: self._mark(item.index),
                request_seconds=self._request_seconds,
            )
            item.sha256 = content.sha256
            if self._known is not None and (known := self._known.find([content.sha256])):
                return known[content.sha256]
            how = self._spec.preprocessing
            item.picture = decode(content.data, self._limits, how.reading_size, colour=how.is_colour)
            item.images = [preprocess(one.image, how) for one in item.picture.slices]
        except PictureError as error:
            return Failed(FailureKind(error.kind.value), error.reason)
        except MemoryError:
            return Failed(FailureKind.PERMANENT, "needs more memory than decode_memory allows")
        except Exception as error:  # noqa: BLE001 - whatever a file does, it is that file's outcome
            return Failed(FailureKind.PERMANENT, f"could not be decoded ({type(error).__name__})")
        return None

    def _infer(self, slices: Sequence[tuple[_Item, Grey]]) -> None:
        """Run the engine over some images, and give every item what was predicted of its own."""
        self._mark(NO_TASK)  # a batch of volumes takes long: each step of it is progress
        output = self._engine.run(np.stack([image for _, image in slices]))
        predictions = judge(output.logits, output.features, self._spec, self._tensors)
        for number, ((item, _), prediction) in enumerate(zip(slices, predictions, strict=True)):
            item.predictions.append(prediction)
            if self._heatmaps is not None:
                item.maps.append(output.maps[number])

    def _conclude(self, item: _Item) -> Judged:
        """Make one answer of what was predicted of an item's images."""
        assert item.picture is not None
        indices = [one.index for one in item.picture.slices]
        combined = combine(item.predictions, indices, self._spec)
        whole, index = combined.prediction, combined.decisive
        if self._heatmaps is not None and whole.label is not None:
            number = indices.index(index)
            self._heatmaps.write(item.task.file_id, item.images[number], item.maps[number], whole)
        count = item.picture.slice_count
        return Judged(
            status=Status(whole.verdict.value),
            label=whole.label,
            confidence=whole.confidence,
            reason="unlike the images the model was made for" if whole.label is None else None,
            slice_index=index if count > 1 else None,
            slice_count=count if count > 1 else None,
            tags=item.picture.tags or None,
            score=whole.score(self._spec),
            series=self._keys(item.picture.membership),
            votes=combined.votes if count > 1 else None,
            rejected=combined.rejected if count > 1 else 0,
            distance=_finite(whole.distance),
        )

    def _keys(self, membership: Membership | None) -> SeriesKeys | None:
        """Return the pseudonyms of what a file says it is a part of."""
        secret = self._secret
        if membership is None or not secret:
            return None
        return SeriesKeys(
            pseudonym(secret, "series", membership.series),
            pseudonym(secret, "study", membership.study) if membership.study else None,
            pseudonym(secret, "patient", membership.patient) if membership.patient else None,
            membership.position,
        )

    def _mark(self, index: int) -> int:
        """Show what is worked on from now; return now, monotonic nanoseconds."""
        now = time.monotonic_ns()
        PROGRESS.pack_into(self._progress, 0, index, now)
        return now


def _finite(distance: float | None) -> float | None:
    return distance if distance is not None and math.isfinite(distance) else None


@dataclass(slots=True, eq=False)
class _Item:
    """One file on its way from task to outcome."""

    index: int  # in its batch
    task: Task
    answer: Judged | Failed | None = None  # None: the engine is asked
    sha256: bytes | None = None
    picture: Picture | None = None
    images: list[Grey] = field(default_factory=list)  # (S, S[, 3]) each, one per slice that is judged
    predictions: list[Prediction] = field(default_factory=list)  # one per image
    maps: list[Floats] = field(default_factory=list)  # (classes, h, w) each, if heatmaps are asked for
    spent_ns: int = 0  # on reading and decoding
