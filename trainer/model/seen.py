"""The images that a model knows, kept in its weights file so that nobody takes figures on them for real ones.

Of each image the first 5 bytes of its file's sha256: enough to recognise it among millions, too little to
be it. An image that was saved anew, or cut out of the same scan, is another one here; `trainer.data.groups`
finds those.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from config.text import printable
from trainer.images.arrays import Bools

_BYTES = 5
_EARLIER_BYTES = 8  # in files that do not say how many
_TRAINED, _FITTED, _WIDTH = "bt_daemon.trained", "bt_daemon.fitted", "bt_daemon.seen_bytes"


@dataclass(frozen=True, slots=True)
class Seen:
    """Beginnings of sha256s."""

    trained: frozenset[bytes] = frozenset()  # the network learnt from these
    fitted: frozenset[bytes] = frozenset()  # threshold and temperature were fitted on these

    @classmethod
    def of(cls, *, trained: Iterable[str] = (), fitted: Iterable[str] = ()) -> Seen:
        """Return what images with these sha256s, as hex, amount to."""
        return cls(*(frozenset(bytes.fromhex(one)[:_BYTES] for one in part) for part in (trained, fitted)))

    def __or__(self, other: Seen) -> Seen:
        return Seen(self.trained | other.trained, self.fitted | other.fitted)

    def knows_trained(self, hashes: Sequence[str]) -> Bools:
        """Mark the images (n,) with these sha256s, as hex, that the network learnt from."""
        return np.array([bytes.fromhex(one)[:_BYTES] in self.trained for one in hashes], dtype=bool)

    def metadata(self) -> dict[str, str]:
        """Return what goes into the metadata of a weights file."""
        parts = ((_TRAINED, self.trained), (_FITTED, self.fitted))
        told = {key: base64.b64encode(b"".join(sorted(part))).decode() for key, part in parts if part}
        return told | {_WIDTH: str(_BYTES)} if told else {}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Seen:
        """Return what `metadata` wrote; nothing where it is not there or damaged: it decides nothing."""
        width = _EARLIER_BYTES if _WIDTH not in metadata else _BYTES
        return cls(*(_beginnings(metadata.get(key, ""), width) for key in (_TRAINED, _FITTED)))


def seen_warning(
    seen: Seen, trained_sources: Iterable[str], hashes: Iterable[str], sources: Iterable[str]
) -> str:
    """Return in one line that images to judge a model by are known to it, "" if none is.

    `hashes` are the images' sha256s as hex. For a model that does not say which images it knows, the names of
    its sources are compared with those of these images.
    """
    own = [bytes.fromhex(one)[:_BYTES] for one in hashes]
    trained, fitted = (sum(one in part for one in own) for part in (seen.trained, seen.fitted))
    parts = [f"trained on {trained}"] if trained else []
    parts += [f"fitted to {fitted}"] if fitted else []
    if parts:
        return f"the model was {' and '.join(parts)} of these {len(own)} images: figures on them are too good"
    shared = sorted(set(trained_sources) & set(sources))
    if shared and not seen.trained:
        return (
            f"the model was trained on images from {printable(', '.join(shared))}, it does not say on which: "
            "if they are among these, figures on them are too good"
        )
    return ""


def _beginnings(text: str, width: int) -> frozenset[bytes]:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return frozenset()
    return frozenset(data[at : at + _BYTES] for at in range(0, len(data) - width + 1, width))
