"""A lane's work: read, decode, infer and judge, a small batch at a time.

It is done in a process of its own (`daemon.workers.worker_main`): whatever a decoder does to it (hang, eat
memory, die), the daemon lives on. A bad image is data: it becomes an outcome, and the batch goes on.
"""

from __future__ import annotations

import gc
import mmap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from daemon.engines.base import Engine
from daemon.engines.factory import open_engine
from daemon.heatmaps.files import HeatmapFiles
from daemon.process import limit_memory, return_free_memory
from daemon.workers.messages import NO_TASK, PROGRESS, Known, Task, WorkerSetup
from storage.ledger.result_cache import KnownJudgements
from storage.records import Failed, FailureKind, Judged, Outcome, Status
from trainer.images.arrays import Floats, Grey
from trainer.images.decode import PictureError, decode, read_file
from trainer.model.aggregate import combine
from trainer.model.prediction import Prediction, distance_tensors, judge
from trainer.model.preprocess import preprocess
from trainer.model.spec import ModelSpec
from trainer.model.weights import Tensors, read_weights


class Worker:
    """Judges batches with one engine; the state is the engine and what it needs."""

    def __init__(self, setup: WorkerSetup, progress: mmap.mmap, engine: Engine | None = None) -> None:
        """Open what is needed; without an `engine` the lane opens one of its own."""
        self._progress = progress
        self._limits = setup.limits
        self._batch = setup.batch
        self._mark(NO_TASK)
        weights = read_weights(Path(setup.prepared.weights))
        self._spec: ModelSpec = weights.spec
        self._tensors: Tensors = distance_tensors(weights.tensors)
        self._engine: Engine = engine or open_engine(setup.prepared)
        size = self._spec.preprocessing.image_size
        self._engine.run(np.zeros((1, size, size), dtype=np.uint8))
        self._heatmaps = HeatmapFiles(setup.heatmaps, self._spec, weights.sha256) if setup.heatmaps else None
        self._known: KnownJudgements | None = None
        # What exists now lives as long as the lane: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        return_free_memory()
        limit_memory(setup.memory_bytes)

    def remember(self, known: Known) -> None:
        """Take over answers that are known already instead of inferring the same bytes again."""
        # Such an answer has no map; who asks for heatmaps gets one for every image.
        if self._heatmaps is None:
            self._known = KnownJudgements(known.database, known.model_id)

    def work(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Return one outcome per task, in their order."""
        contents: dict[int, bytes] = {}  # place -> sha256
        results: dict[int, Judged | Failed] = {}
        spent_ns: dict[int, int] = {}  # place -> on reading and decoding this file
        inputs: list[Grey] = []
        whose: list[int] = []  # the place each input belongs to
        pictures: dict[int, _Read] = {}
        for place, task in enumerate(tasks):
            began = self._mark(place)
            read = self._read(task, contents, place)
            spent_ns[place] = time.monotonic_ns() - began
            if isinstance(read, _Read):
                pictures[place] = read
                inputs += read.inputs
                whose += [place] * len(read.inputs)
            else:
                results[place] = read
        began = self._mark(NO_TASK)
        results |= self._judge(inputs, whose, pictures, tasks)
        share_ns = (time.monotonic_ns() - began) // max(1, len(inputs))  # of one slice
        for place, picture in pictures.items():
            spent_ns[place] += share_ns * len(picture.inputs)
        return [
            Outcome(task.file_id, results[place], contents.get(place), spent_ns[place] // 1000)
            for place, task in enumerate(tasks)
        ]

    def _read(self, task: Task, contents: dict[int, bytes], place: int) -> _Read | Judged | Failed:
        """Read and decode one file; an answer that is known already is returned at once."""
        try:
            content = read_file(task.path, self._limits, (task.size, task.mtime_ns, task.inode))
            contents[place] = content.sha256
            if self._known is not None and (known := self._known.find([content.sha256])):
                return known[content.sha256]
            picture = decode(content.data, self._limits, self._spec.preprocessing.image_size)
            inputs = [preprocess(one.image, self._spec.preprocessing) for one in picture.slices]
        except PictureError as error:
            return Failed(FailureKind(error.kind.value), error.reason)
        except MemoryError:
            return Failed(FailureKind.PERMANENT, "needs more memory than decode_memory allows")
        except Exception as error:  # noqa: BLE001 - whatever a file does, it is that file's outcome
            return Failed(FailureKind.PERMANENT, f"could not be decoded ({type(error).__name__})")
        return _Read(inputs, [one.index for one in picture.slices], picture.slice_count, picture.tags)

    def _judge(
        self,
        inputs: list[Grey],
        whose: list[int],
        pictures: dict[int, _Read],
        tasks: Sequence[Task],
    ) -> dict[int, Judged | Failed]:
        """Run the engine over all inputs, and make one answer per picture."""
        said: dict[int, list[Prediction]] = {place: [] for place in pictures}
        maps: dict[int, list[Floats]] = {place: [] for place in pictures}
        for start in range(0, len(inputs), self._batch):
            output = self._engine.run(np.stack(inputs[start : start + self._batch]))
            predictions = judge(output.logits, output.features, self._spec, self._tensors)
            for number, prediction in enumerate(predictions):
                said[whose[start + number]].append(prediction)
                if self._heatmaps is not None:
                    maps[whose[start + number]].append(output.maps[number])
        answers: dict[int, Judged | Failed] = {}
        for place, picture in pictures.items():
            whole, index = combine(said[place], picture.indices, self._spec)
            answers[place] = self._answer(whole, index, picture)
            if self._heatmaps is not None and whole.label is not None:
                slice_place = picture.indices.index(index)
                self._heatmaps.write(
                    tasks[place].file_id, picture.inputs[slice_place], maps[place][slice_place], whole
                )
        return answers

    def _answer(self, whole: Prediction, index: int, picture: _Read) -> Judged:
        volume = picture.slice_count > 1
        return Judged(
            status=Status(whole.verdict.value),
            label=whole.label,
            confidence=whole.confidence,
            reason="unlike the images the model was made for" if whole.label is None else None,
            slice_index=index if volume else None,
            slice_count=picture.slice_count if volume else None,
            tags=picture.tags or None,
            score=whole.score(self._spec),
        )

    def _mark(self, place: int) -> int:
        """Show what is worked on from now; return now, monotonic nanoseconds."""
        now = time.monotonic_ns()
        PROGRESS.pack_into(self._progress, 0, place, now)
        return now


@dataclass(frozen=True, slots=True)
class _Read:
    """One file, decoded and preprocessed."""

    inputs: list[Grey]
    indices: list[int]
    slice_count: int
    tags: dict[str, str]
