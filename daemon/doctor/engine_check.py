"""Check decoders, engine and weights."""

from __future__ import annotations

from collections.abc import Iterator

from config.extras import install_hint, installed, package_hint
from config.text import printable
from daemon.doctor.finding import Found, Level, Surroundings
from trainer.model.openvino_import import openvino_without_telemetry

_DECODER_PACKAGES = "pillow pydicom pylibjpeg pylibjpeg-openjpeg pylibjpeg-rle pyjpegls nibabel"

_MOST_CLASSES_SHOWN = 10


def decoders(_: Surroundings) -> Iterator[Found]:
    """Which formats can be decoded here."""
    from trainer.images.formats.codecs import WITH_EXTRA, decoder_plugins

    plugins = decoder_plugins()
    missing = [name for name, there in plugins.items() if not there]
    if missing and set(missing) <= WITH_EXTRA:
        yield (
            Level.OK,
            f"{len(plugins) - len(missing)} formats and DICOM compressions can be decoded, "
            f"not {', '.join(missing)}",
            package_hint("imagecodecs"),
        )
    elif missing:
        yield (
            Level.WARN,
            f"cannot be decoded here: {', '.join(missing)}; such files become error rows",
            f"pip install --upgrade {_DECODER_PACKAGES}",
        )
    else:
        yield Level.OK, f"all {len(plugins)} formats and DICOM compressions can be decoded", ""


def engine(around: Surroundings) -> Iterator[Found]:
    """Whether the CPU's engine can be loaded, and the device that is asked for is there."""
    try:
        openvino = openvino_without_telemetry()
        version, devices = openvino.__version__.split("-")[0], openvino.Core().available_devices
        yield Level.OK, f"openvino {version}, devices {', '.join(devices)}", ""
    except ImportError as error:
        yield (
            Level.WARN,
            f"openvino cannot be imported ({printable(str(error))}): torch judges, if it is there",
            "pip install openvino",
        )
    wants_cuda = around.settings.device.startswith("cuda")
    count = _cuda_devices()
    if count == 0:
        yield (
            (
                Level.FAIL,
                f"there is no CUDA device, but device is {printable(around.settings.device)}",
                "use --device cpu",
            )
            if wants_cuda
            else (Level.OK, "no CUDA device: images are judged on the CPU", "")
        )
        return
    yield _torch_cuda(count, wants_cuda=wants_cuda)


def _cuda_devices() -> int:
    """Return how many devices the driver has, without importing torch (CUDA Driver API, 6.3 and 6.4)."""
    import ctypes

    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def _torch_cuda(count: int, *, wants_cuda: bool) -> Found:
    if not installed("torch"):
        level = Level.FAIL if wants_cuda else Level.OK
        return (
            level,
            f"{count} CUDA devices, but torch is not installed to use them",
            install_hint("cuda"),
        )
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
        return Level.OK, f"CUDA {torch.version.cuda}: {printable(names)}", ""
    level = Level.FAIL if wants_cuda else Level.WARN
    return level, f"{count} CUDA devices, but this torch cannot use them", "install a torch built for CUDA"


def weights(around: Surroundings) -> Iterator[Found]:
    """Whether the weights file is whole and ours."""
    from daemon.foreign.adoption import model_file
    from daemon.version import SHORT_HASH
    from trainer.model.foreign_network import NEVER_REJECTS, WITHOUT_MAPS
    from trainer.model.weights import read_weights

    weights = read_weights(model_file(around.settings))
    spec = weights.spec
    yield (
        Level.OK,
        printable(f"{spec.name} {spec.version} ({weights.sha256[:SHORT_HASH]}): {_few(spec.classes)}"),
        "",
    )
    if spec.foreign is not None:
        yield (
            Level.OK,
            f"no heatmaps: {WITHOUT_MAPS}; {NEVER_REJECTS}",
            "",
        )


def _few(classes: tuple[str, ...]) -> str:
    more = len(classes) - _MOST_CLASSES_SHOWN
    return ", ".join(classes[:_MOST_CLASSES_SHOWN]) + (f" and {more:,} more classes" if more > 0 else "")
