"""List what is accepted: storage classes with pictures, in the transfer syntaxes that are decoded here."""

from __future__ import annotations

from pydicom.uid import UID
from pynetdicom import AllStoragePresentationContexts
from pynetdicom.presentation import PresentationContext, build_context

from trainer.images.formats.codecs import decodable_transfer_syntaxes

VERIFICATION = "1.2.840.10008.1.1"  # C-ECHO
# PS3.6, annex A. Secondary captures may be of any modality; many archives keep series of them.
_MAGNETIC_RESONANCE = (
    "1.2.840.10008.5.1.4.1.1.4",  # MR Image Storage
    "1.2.840.10008.5.1.4.1.1.4.1",  # Enhanced MR Image Storage
    "1.2.840.10008.5.1.4.1.1.4.3",  # Enhanced MR Color Image Storage
    "1.2.840.10008.5.1.4.1.1.4.4",  # Legacy Converted Enhanced MR Image Storage
    *("1.2.840.10008.5.1.4.1.1.7" + end for end in ("", ".1", ".2", ".3", ".4")),  # Secondary Capture
)


def accepted_contexts(*, any_modality: bool) -> list[PresentationContext]:
    """Return the presentation contexts of C-ECHO and of what `bt-daemon watch` judges with that setting."""
    classes = _MAGNETIC_RESONANCE
    if any_modality:
        every = (str(context.abstract_syntax) for context in AllStoragePresentationContexts)
        classes = tuple(uid for uid in every if "Image Storage" in UID(uid).name)
    syntaxes = decodable_transfer_syntaxes()
    return [build_context(VERIFICATION), *(build_context(uid, syntaxes) for uid in classes)]


def class_name(uid: object) -> str:
    """Return the standard's name of a SOP class; a UID that it does not know could say anything."""
    found = UID(str(uid or ""))
    return found.name if found.name != found else "an unknown class"
