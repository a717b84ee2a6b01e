"""List the picture formats and DICOM compressions that this installation decodes, for `bt-daemon doctor`."""

from __future__ import annotations

import contextlib

# Pillow's name of the codec behind a format, where it is a library that a build may lack.
_CODECS = {"JPEG": "jpg", "PNG, compressed TIFF": "zlib", "compressed TIFF": "libtiff"}

_DECODERS = {
    "DICOM RLE": "RLELosslessDecoder",
    "DICOM JPEG baseline": "JPEGBaseline8BitDecoder",
    "DICOM JPEG extended": "JPEGExtended12BitDecoder",
    "DICOM JPEG lossless": "JPEGLosslessDecoder",
    "DICOM JPEG lossless SV1": "JPEGLosslessSV1Decoder",
    "DICOM JPEG-LS lossless": "JPEGLSLosslessDecoder",
    "DICOM JPEG-LS near-lossless": "JPEGLSNearLosslessDecoder",
    "DICOM JPEG 2000 lossless": "JPEG2000LosslessDecoder",
    "DICOM JPEG 2000": "JPEG2000Decoder",
    "DICOM HTJ2K lossless": "HTJ2KLosslessDecoder",
    "DICOM HTJ2K lossless RPCL": "HTJ2KLosslessRPCLDecoder",
    "DICOM HTJ2K": "HTJ2KDecoder",
}
# Those that the base install lacks.
WITH_EXTRA = frozenset({"DICOM JPEG extended", "DICOM JPEG lossless", "DICOM JPEG lossless SV1"})


def decoder_plugins() -> dict[str, bool]:
    """Return for each format or compression in people's words whether it can be decoded here."""
    from PIL import features

    found = {name: bool(features.check_codec(codec)) for name, codec in _CODECS.items()}
    found["WebP"] = bool(features.check_module("webp"))
    found.update(_dicom_decoders())
    found["NIfTI"] = _has("nibabel")
    return found


def decodable_transfer_syntaxes() -> list[str]:
    """Return the UIDs of the DICOM transfer syntaxes that are decoded here, the uncompressed ones first."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import AllTransferSyntaxes

    from trainer.images.formats import dicom_jpeg

    dicom_jpeg.register()
    found = []
    for uid in AllTransferSyntaxes:
        with contextlib.suppress(NotImplementedError):  # video
            if get_decoder(uid).is_available:
                found.append(uid)
    return [str(uid) for uid in sorted(found, key=lambda uid: uid.is_encapsulated)]


def _dicom_decoders() -> dict[str, bool]:
    try:
        from pydicom.pixels import decoders
    except ImportError:
        return {"DICOM": False, **dict.fromkeys(_DECODERS, False)}
    from trainer.images.formats import dicom_jpeg

    dicom_jpeg.register()
    available = {
        name: bool(getattr(getattr(decoders, decoder, None), "is_available", False))
        for name, decoder in _DECODERS.items()
    }
    return {"DICOM": True, **available}


def _has(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None
