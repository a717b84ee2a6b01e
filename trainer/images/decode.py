"""Bytes of any kind in, a Picture or a PictureError out: the one reader of bt-daemon and bt-train.

The format is told from the content, never from the name: JPEG, PNG, TIFF, BMP, GIF, WebP, DICOM and
NIfTI; nothing else reaches a decoder. Volumes and multi-frame objects become slices (see
`trainer.images.volume`); of an animation the first frame is taken. C libraries (libtiff) write to file
descriptor 2 as they like: see `trainer.images.silence.silence_c_libraries`.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

from trainer.images.colour import in_colour
from trainer.images.formats.raster import decode_raster, open_raster, raster_format
from trainer.images.formats.sniff import is_bare_dicom, is_nifti, why_archive
from trainer.images.formats.truncation import is_cut_off
from trainer.images.picture import Limits, Picture, PictureError, ReadFailure, Slice, Stack, Tones, refuse
from trainer.images.read import FileContent, read_file

__all__ = [
    "FileContent",
    "Limits",
    "Picture",
    "PictureError",
    "ReadFailure",
    "Slice",
    "Stack",
    "Tones",
    "decode",
    "open_stack",
    "read_file",
]

_GZIP = b"\x1f\x8b"


def decode(data: bytes, limits: Limits, image_size: int, *, colour: bool = False) -> Picture:
    """Return what an image file's bytes show; raise PictureError, and nothing else, if that is nothing.

    `image_size` is the network's input size in pixels: pictures come back reduced by the power of
    two that `trainer.images.reduction` gives for them. In `colour` slices are of mode RGB, grey files too
    (see `trainer.images.colour`). One call at a time in a process: Python's
    warnings, which are off meanwhile, belong to all its threads.
    """
    name = _format(data)
    with _one_kind_of_error(name, data):
        if name == "DICOM":
            from trainer.images.formats.dicom import decode_dicom

            return decode_dicom(data, limits, image_size, colour=colour)
        if name == "NIfTI":
            from trainer.images.formats.nifti import decode_nifti

            picture = decode_nifti(data, limits, image_size)
            return in_colour(picture) if colour else picture
        return decode_raster(name, data, limits, image_size, colour=colour)


def open_stack(data: bytes, limits: Limits) -> Stack:
    """Return the slices of an image file, to be decoded one at a time with the numbers that are in it.

    Raises PictureError, and nothing else, as its `tones` does.
    """
    name = _format(data)
    with _one_kind_of_error(name, data):
        return _Guarded(name, data, _stack(name, data, limits))


def _stack(name: str, data: bytes, limits: Limits) -> Stack:
    if name == "DICOM":
        from trainer.images.formats.dicom import DicomStack

        return DicomStack(data, limits)
    if name == "NIfTI":
        from trainer.images.formats.nifti import NiftiStack

        return NiftiStack(data, limits)
    return open_raster(name, data, limits)


class _Guarded:
    """Slices whose faults are PictureErrors."""

    def __init__(self, name: str, data: bytes, stack: Stack) -> None:
        self._name = name
        self._data = data
        self._stack = stack
        self.count = stack.count

    def tones(self, number: int) -> Tones:
        """Return a slice; raise PictureError where there is none of that number."""
        if not 0 <= number < self.count:
            refuse(f"there is no slice {number + 1} of {self.count}")
        with _one_kind_of_error(self._name, self._data), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata; pydicom's warnings quote values
            return self._stack.tones(number)


@contextlib.contextmanager
def _one_kind_of_error(name: str, data: bytes) -> Iterator[None]:
    """Turn whatever a decoder raises into a PictureError."""
    try:
        yield
    except PictureError:
        raise
    except MemoryError as error:
        raise PictureError(ReadFailure.PERMANENT, "decoding it takes more memory than is allowed") from error
    except ImportError as error:
        raise PictureError(ReadFailure.PERMANENT, f"reading {name} needs {error.name}") from error
    except Exception as error:  # noqa: BLE001 - decoders raise anything: ValueError, IndexError, struct.error
        raise _broken(name, data, error) from None  # a traceback of theirs may quote the file
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":
            raise
        raise _broken(name, data, error) from None  # a decoder in Rust panicked, which is no Exception


def _format(data: bytes) -> str:
    """Return the format that a file's content announces; raise PictureError if it is none we read."""
    if data[128:132] == b"DICM":  # first, because a DICOM preamble may hold a TIFF header (PS3.10, 7.1)
        return "DICOM"
    name = raster_format(data)
    if name is not None:
        return name
    if is_nifti(data) or data.startswith(_GZIP):
        return "NIfTI"
    if is_bare_dicom(data):
        return "DICOM"
    if not data.strip(b"\0"):
        raise PictureError(ReadFailure.INCOMPLETE, "the file holds only zeros")
    raise PictureError(ReadFailure.PERMANENT, why_archive(data) or "not an image of a known format")


def _broken(name: str, data: bytes, error: BaseException) -> PictureError:
    if name in ("DICOM", "NIfTI"):  # their libraries quote values, which may be a patient's
        return PictureError(ReadFailure.PERMANENT, f"a broken {name} file ({type(error).__name__})")
    if is_cut_off(name, data, error):
        return PictureError(ReadFailure.INCOMPLETE, f"a truncated {name} file")
    # Pillow's own words are safe to show; what other exceptions say may quote the file.
    words = str(error) if isinstance(error, (OSError, SyntaxError)) else ""
    return PictureError(ReadFailure.PERMANENT, f"a broken {name} file: {words or type(error).__name__}")
