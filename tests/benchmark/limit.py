"""What the machine could do: decoding and forward passes measured alone, from memory, one thread per core.

    python -m tests.benchmark.limit WEIGHTS FOLDER CACHE

Prints the CPU-seconds that one image costs in decoding and in the network, as JSON.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from daemon.child import child_environment
from daemon.engine import open_engine, prepare_engine
from trainer.decoded import Limits
from trainer.picture import decode
from trainer.preprocess import preprocess

_SAMPLE = 400  # images, in memory
_BATCH = 16


def limit(weights: Path, folder: Path, cache: Path, cores: int) -> dict[str, float]:
    """Return the CPU-seconds per image of each part and the images/s they allow on all cores together."""
    command = [sys.executable, "-m", "tests.benchmark.limit", str(weights), str(folder), str(cache)]
    # All at once: cores that share caches and clock must do so here as well.
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, env=child_environment()) for _ in range(cores)
    ]
    said = [json.loads(process.communicate()[0]) for process in running]
    parts = {name: sum(one[name] for one in said) / cores for name in said[0]}
    return {**parts, "images_per_second": cores / sum(parts.values())}


def main(arguments: list[str]) -> None:
    """Measure in this process and print."""
    weights, folder, cache = map(Path, arguments)
    prepared, spec = prepare_engine(weights, "cpu", "auto", cache, logging.getLogger("benchmark"))
    how = spec.preprocessing
    files = [path.read_bytes() for path in sorted(folder.iterdir())[:_SAMPLE]]
    began = time.process_time()
    inputs = [preprocess(decode(data, Limits(), how.image_size).slices[0].image, how) for data in files]
    decoding = (time.process_time() - began) / len(files)
    batches = [np.stack(inputs[at : at + _BATCH]) for at in range(0, len(inputs), _BATCH)]
    engine = open_engine(prepared)
    for batch in (batches[0], batches[-1]):
        engine.run(batch)  # the first pass of a shape prepares it
    began = time.process_time()
    for batch in batches:
        engine.run(batch)
    forward = (time.process_time() - began) / len(inputs)
    print(json.dumps({"decode_cpu_seconds": decoding, "forward_cpu_seconds": forward}))


if __name__ == "__main__":
    main(sys.argv[1:])
