"""Parse the times people type: `today`, `2h ago`, `this week`, `2026-11`, `2026-11-01 14:30+02:00`.

General date libraries get "today" wrong (now, or nine o'clock), so this is a few lines of our own on
zoneinfo. Local times that a clock change skips mean the instant of the change; times that occur
twice mean the first of the two, so that `--since` leaves nothing out. A day, week (from Monday, ISO 8601),
month or year is its first instant.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from config.errors import UsageError
from config.text import printable

_LOCALTIME = Path("/etc/localtime")
_EXAMPLES = (
    "write it as today, yesterday, now, 2h ago, 7d, this week, last month, 14:30, 2026-11, 2026-11-01, "
    "2026-11-01 14:30+02:00 or @1767225600"
)

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_UNIT = r"(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?)"
_AGO = re.compile(rf"-?\s*(\d{{1,9}})\s*{_UNIT}(?:\s+ago)?", re.ASCII)
_ONE_AGO = re.compile(r"an? (second|minute|hour|day|week) ago")
_PERIOD = re.compile(r"(this|last) (week|month|year)")
_MONTH = re.compile(r"(\d{4})-(\d{2})", re.ASCII)
_CLOCK = r"(\d{1,2}):(\d{2})(?::(\d{2}))?"
_TIME = re.compile(_CLOCK, re.ASCII)
_DATE = re.compile(rf"(\d{{4}})-(\d{{2}})-(\d{{2}})(?:[ t]+{_CLOCK}\s*(z|[+-]\d{{2}}:?\d{{2}})?)?", re.ASCII)
_EPOCH = re.compile(r"@(\d{1,12})(\.\d{1,9})?", re.ASCII)


def parse_when(text: str, now: datetime, zone: tzinfo) -> datetime:
    """Return the instant, in UTC, that `text` means at the aware time `now` in `zone`.

    A bare number with a unit looks back (7d is seven times 24 hours ago, whatever the clocks did).
    Raises UsageError (exit 2), with examples, for anything else and for dates that do not exist.
    """
    words = " ".join(text.strip().lower().split())
    try:
        found = _parse(words, now.astimezone(UTC), zone)
    except (ValueError, OverflowError) as error:
        raise _refusal(text) from error
    if found is None:
        raise _refusal(text)
    return found


def microseconds(moment: datetime) -> int:
    """Return an aware time as microseconds since the epoch, exactly."""
    return (moment - _EPOCH_START) // timedelta(microseconds=1)


def moment(time_us: int) -> datetime:
    """Return microseconds since the epoch as an aware UTC time."""
    return _EPOCH_START + timedelta(microseconds=time_us)


def local_zone() -> tzinfo:
    """Return the machine's zone with its rules for every date, not just today's offset from UTC.

    TZ decides, then /etc/localtime; without either it is UTC, as libc has it.
    """
    name = os.environ.get("TZ")
    if name is not None:
        return _named_zone(name.removeprefix(":"))
    try:
        with _LOCALTIME.open("rb") as rules:
            return ZoneInfo.from_file(rules, key=_key_of(_LOCALTIME))
    except (OSError, ValueError):
        return UTC


def instant(local: datetime, zone: tzinfo) -> datetime:
    """Return the UTC instant of a naive local time; the first of two, or the change that skips it."""
    moment_utc = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if moment_utc.astimezone(zone).replace(tzinfo=None) == local:
        return moment_utc
    return _end_of_gap(local, zone)


def _parse(words: str, now: datetime, zone: tzinfo) -> datetime | None:
    if words == "now":
        return now
    if match := _AGO.fullmatch(words):
        return now - timedelta(seconds=int(match[1]) * _SECONDS[match[2][0]])
    if match := _ONE_AGO.fullmatch(words):
        return now - timedelta(seconds=_SECONDS[match[1][0]])
    if match := _EPOCH.fullmatch(words):
        fraction = timedelta(microseconds=int((match[2] or ".")[1:].ljust(6, "0")[:6]))
        return _EPOCH_START + timedelta(seconds=int(match[1])) + fraction
    return _of_calendar(words, zone) or _of_today(words, now, zone)


def _of_calendar(words: str, zone: tzinfo) -> datetime | None:
    if match := _DATE.fullmatch(words):
        return _date(match, zone)
    if match := _MONTH.fullmatch(words):
        return _midnight(date(int(match[1]), int(match[2]), 1), zone)
    return None


def _of_today(words: str, now: datetime, zone: tzinfo) -> datetime | None:
    today = now.astimezone(zone).date()
    if words == "today":
        return _midnight(today, zone)
    if words == "yesterday":
        return _midnight(today - timedelta(days=1), zone)
    if match := _PERIOD.fullmatch(words):
        return _midnight(_first_day(match[2], today, back=match[1] == "last"), zone)
    if match := _TIME.fullmatch(words):
        return instant(datetime.combine(today, _clock(*match.groups())), zone)
    return None


def _first_day(period: str, today: date, *, back: bool) -> date:
    """Return the first day of the week, month or year of `today`, or of the one before."""
    if period == "week":
        return today - timedelta(days=today.weekday() + 7 * back)
    if period == "year":
        return date(today.year - back, 1, 1)
    this = today.replace(day=1)
    return (this - timedelta(days=1)).replace(day=1) if back else this


def _midnight(day: date, zone: tzinfo) -> datetime:
    return instant(datetime.combine(day, time()), zone)


def _date(match: re.Match[str], zone: tzinfo) -> datetime:
    hour, minute, second, offset = match.groups()[3:]
    clock = time() if hour is None else _clock(hour, minute, second)
    local = datetime(int(match[1]), int(match[2]), int(match[3])).replace(  # noqa: DTZ001 - local on purpose
        hour=clock.hour, minute=clock.minute, second=clock.second
    )
    if offset is None:
        return instant(local, zone)
    return local.replace(tzinfo=UTC) - _offset(offset)


def _clock(hour: str, minute: str, second: str | None) -> time:
    return time(int(hour), int(minute), int(second or 0))


def _offset(text: str) -> timedelta:
    if text == "z":
        return timedelta()
    hours, minutes = int(text[1:3]), int(text[-2:])
    if hours > 23 or minutes > 59:
        raise ValueError("an offset is less than a day")
    size = timedelta(hours=hours, minutes=minutes)
    return -size if text[0] == "-" else size


def _end_of_gap(local: datetime, zone: tzinfo) -> datetime:
    """Return the instant at which clocks jumped over `local`.

    PEP 495: in a gap, fold=0 reads with the offset before the change and lands after it, fold=1
    with the offset after it and lands before it; in between the local time jumps.
    """
    late = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    early = local.replace(tzinfo=zone, fold=1).astimezone(UTC)
    while late - early > timedelta(seconds=1):
        middle = (early + (late - early) / 2).replace(microsecond=0)
        if middle <= early:
            break
        if middle.astimezone(zone).replace(tzinfo=None) < local:
            early = middle
        else:
            late = middle
    return late.replace(microsecond=0)


def _named_zone(name: str) -> tzinfo:
    if not name:
        return UTC
    try:
        if name.startswith("/"):
            with Path(name).open("rb") as rules:
                return ZoneInfo.from_file(rules, key=_key_of(Path(name)))
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageError(
            f"the time zone TZ={printable(name)} is not known here",
            hint="set TZ to a name such as Europe/Berlin, or unset it",
        ) from error


def _key_of(path: Path) -> str | None:
    """Return Europe/Berlin for a link into the zone database."""
    _, found, key = os.path.realpath(path).partition("/zoneinfo/")
    return key if found else None


def _refusal(text: str) -> UsageError:
    return UsageError(f"{printable(repr(text))[:80]} is not a time", hint=_EXAMPLES)


_EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)
