"""BIDS labels: letters and digits that stand for patients and studies in names such as `sub-01`.

https://bids-specification.readthedocs.io, "Common principles", Entities: a label is alphanumeric.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable

_PREFIX = re.compile(r"^(?:sub|ses)-(?=[A-Za-z0-9]+$)")
_SUFFIXES = re.compile(r"(?:\.[A-Za-z]{2,5}){1,2}$")  # .nii.gz
_SHORT_HASH = 6  # hex digits


def bids_labels(names: Iterable[str]) -> dict[str, str]:
    """Return the label of each name; different names have different labels, also in other capitals.

    What is a label already (or a pseudonym, or `sub-` and a label) stays as it is, as far as that is clear.
    """
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):
        alike[_plain(name).casefold()].append(name)
    found = {}
    for same in alike.values():
        for name in same:
            plain = _plain(name)
            found[name] = plain if plain and len(same) == 1 else plain + _hash(name)
    return found


def _plain(name: str) -> str:
    bare = _SUFFIXES.sub("", _PREFIX.sub("", name))
    return re.sub(r"[^A-Za-z0-9]", "", bare)


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:_SHORT_HASH]
