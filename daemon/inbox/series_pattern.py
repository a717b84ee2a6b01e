"""Series by path: which files of an inbox are slices of one series, as a setting says.

The setting is a regular expression that is searched in the path of a file below its inbox. Its group
`series` names the series; `study`, `patient` and `position` may be there too. Two patterns have a name:
`bids` is the Brain Imaging Data Structure (https://bids-specification.readthedocs.io, "Common principles"),
where a volume, or slices cut from it, are called sub-01_ses-02_T1w.nii.gz or sub-01_ses-02_T1w_012.png, and
`folders` takes each folder for a series, and the folders around it for its study and patient.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable

from config.errors import UsageError
from config.text import printable
from storage.records import PathMembership

_NUMBER = r"(?P<position>\d+)"
_PATTERNS = {
    "bids": r"(?:^|/)(?P<series>(?P<patient>sub-[A-Za-z0-9]+)(?:_(?P<study>ses-[A-Za-z0-9]+))?"
    rf"(?:_[A-Za-z]+-[A-Za-z0-9]+)*_[A-Za-z0-9]+)(?:[_-](?:slice-?)?{_NUMBER})?\.[^/]+$",
    "folders": r"^(?:.*?/)??(?:(?P<patient>[^/]+)/(?:(?P<study>[^/]+)/)?)?(?P<series>[^/]+)/"
    rf"(?:[^/.]*?{_NUMBER}[^/.\d]*(?:\.[^/]*)?|[^/]*)$",
}
_GROUPS = frozenset({"series", "study", "patient", "position"})


def path_reader(setting: str) -> Callable[[bytes], PathMembership | None] | None:
    """Return what tells the series of a path, None for a setting that is empty.

    Raises UsageError for what is no regular expression, or one without a group named series.
    """
    if not setting:
        return None
    try:
        pattern = re.compile(_PATTERNS.get(setting, setting))
    except re.error as error:
        raise UsageError(
            f"--series: {printable(setting)!r} is no regular expression ({error})",
            hint="write bids, folders, or one like '(?P<patient>[^/]+)/(?P<series>[^/]+)/'",
        ) from None
    if "series" not in pattern.groupindex or not set(pattern.groupindex) <= _GROUPS:
        raise UsageError(
            f"--series: {printable(setting)!r} names no series",
            hint="name its groups series, study, patient and position: (?P<series>...)",
        )
    return lambda path: _read(pattern, os.fsdecode(path))


def _read(pattern: re.Pattern[str], path: str) -> PathMembership | None:
    match = pattern.search(path)
    if match is None:
        return None
    found = {name: printable(text) for name, text in match.groupdict(default="").items()}
    if not found["series"]:
        return None
    return PathMembership(
        found["series"],
        found.get("study", ""),
        found.get("patient", ""),
        _number(found.get("position", "")),
    )


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
