"""The keywords of DICOM's data elements, such as StudyInstanceUID, from pydicom's dictionary."""

from __future__ import annotations

import difflib
import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

from config.errors import UsageError
from config.text import printable

# Below it lie commands and the file's own header (PS3.5, 7.1), which are no part of an image's data set.
_FIRST_GROUP = 0x0008


def checked_keyword(name: str) -> str:
    """Return `name` if it is a keyword; raise UsageError with a suggestion if it is none."""
    known = _keywords()
    if name in known:
        return name
    if _tag(name) in _names():
        near = _names()[_tag(name)]
    else:
        spelt = {keyword.lower(): keyword for keyword in known}
        close = difflib.get_close_matches(name.lower().replace(" ", ""), spelt, n=1, cutoff=0.7)
        near = spelt[close[0]] if close else ""
    raise UsageError(
        f"{printable(repr(name))[:80]} is no keyword of a DICOM data set"
        + (f", did you mean {near}?" if near else ""),
        hint="keywords are written like StudyInstanceUID, SeriesInstanceUID, EchoTime",
    )


def _tag(name: str) -> int:
    """Return the number of 0020000D or (0020,000D), -1 for what is no number."""
    digits = name.strip("()").replace(",", "").replace(" ", "")
    try:
        return int(digits, 16) if len(digits) == 8 else -1
    except ValueError:
        return -1


@cache
def _keywords() -> frozenset[str]:
    return frozenset(_names().values())


@cache
def _names() -> dict[int, str]:
    entries = _dictionary().DicomDictionary
    return {tag: entry[4] for tag, entry in entries.items() if entry[4] and tag >> 16 >= _FIRST_GROUP}


def _dictionary() -> ModuleType:
    """Load the dictionary without the package around it, which would cost each command half a second."""
    package = importlib.util.find_spec("pydicom")
    for folder in (package and package.submodule_search_locations) or ():
        place = Path(folder) / "_dicom_dict.py"
        spec = importlib.util.spec_from_file_location("_dicom_dict", place)
        if place.is_file() and spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    return importlib.import_module("pydicom._dicom_dict")
