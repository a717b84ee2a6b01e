"""Search for bytes that make the reader or the weights loader raise what they should not, by coverage.

    pip install '.[fuzz]'
    python -m tests.harness.fuzz_reader {picture|weights} FOLDER [-max_total_time=600] [-rss_limit_mb=4096]

FOLDER keeps what reached new code, and starts with a small good file of each kind; options with one
dash are libFuzzer's. Ends with a traceback and a `crash-...` file at the first finding. A decoder may print:
redirect the output.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["trainer", "pydicom", "nibabel", "PIL"]):
    import PIL.BmpImagePlugin
    import PIL.GifImagePlugin
    import PIL.JpegImagePlugin
    import PIL.PngImagePlugin
    import PIL.TiffImagePlugin
    import PIL.WebPImagePlugin  # noqa: F401  (the plugins are imported here to be instrumented)
    import pydicom

    from tests.trainer.images.test_fuzz import LIMITS, seeds
    from trainer.images.decode import decode
    from trainer.images.picture import PictureError
    from trainer.model.identity import default_weights
    from trainer.model.weights import read_weights

from config.errors import WeightsError


def picture(data: bytes) -> None:
    """Read bytes as the daemon does: a picture or the typed error."""
    with contextlib.suppress(PictureError):
        decode(data, LIMITS, 64)


def weights(data: bytes) -> None:
    """Read bytes as a weights file: weights or the typed error."""
    _PLACE.write_bytes(data)
    with contextlib.suppress(WeightsError):
        read_weights(_PLACE)


_TARGETS: dict[str, Callable[[bytes], None]] = {"picture": picture, "weights": weights}
_PLACE = Path("/dev/shm/bt-fuzzed.safetensors")


def main() -> None:
    """Run libFuzzer until it finds something or its time is over."""
    if len(sys.argv) < 3 or sys.argv[1] not in _TARGETS:
        raise SystemExit(__doc__)
    target, folder, *options = sys.argv[1:]
    Path(folder).mkdir(parents=True, exist_ok=True)
    if target == "picture":
        for name, data in seeds().items():
            (Path(folder) / name.replace(" ", "-").replace("/", "-")).write_bytes(data)
    else:
        (Path(folder) / "beginning").write_bytes(default_weights().read_bytes()[:20_000])
    pydicom.config.logger.disabled = True
    atheris.Setup([sys.argv[0], folder, *options], _TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
