"""Parse a page's address: filters, order and page, all checked."""

from __future__ import annotations

import base64
import binascii
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from typing import TypeVar
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from config.errors import UsageError
from config.when import microseconds, parse_when
from storage.query import Grouping, Key, Query, ReviewFilter, Sort
from storage.records import Status

PAGE = 50
_MOST = 500
_MOST_ID = 10**12
_FIELDS = ("since", "until", "class", "status", "q", "min_confidence", "max_confidence", "min_score",
           "max_score", "model", "sort", "order", "n", "by", "study", "patient", "inbox", "series", "review",
           "view")  # fmt: skip
# Longer than any path.
_LONGEST_TEXT = 4_096
_HEX = "hex:"


class View(StrEnum):
    """How results are laid out."""

    TABLE = "table"
    COMPACT = "compact"  # more rows, without pictures
    PICTURES = "pictures"


_Word = TypeVar("_Word", Status, Sort, Grouping, ReviewFilter, View)


@dataclass(frozen=True, slots=True)
class Asked:
    """A query and the words it was asked in."""

    query: Query
    words: Mapping[str, str]  # the filters as they were typed, without the page
    by: Grouping = Grouping.SERIES  # of the list of series
    page: int = 1  # of the list of series
    view: View = View.TABLE  # of the list of results

    def address(self, path: str, **changed: str) -> str:
        """Return the same question with some words changed."""
        words = {name: value for name, value in {**self.words, **changed}.items() if value}
        return f"{path}?{urlencode(words)}" if words else path

    def next_page(self, path: str, key: Key) -> str:
        """Return the address of the page that begins behind a row."""
        return self.address(path, after=encode_key(key))


def asked(params: QueryParams, zone: tzinfo, *, since: str = "") -> Asked:
    """Return what is asked for; raise UsageError for what cannot be meant. `since` is the default."""
    words = {name: _last(params.getlist(name)) for name in _FIELDS}
    words["since"] = words["since"] or since
    now = datetime.now(UTC)
    begin, end = (_time(words[name], now, zone) for name in ("since", "until"))
    query = Query(
        since_us=begin,
        until_us=end,
        labels=(words["class"],) if words["class"] else (),
        statuses=(_one_of(Status, words["status"], "status"),) if words["status"] else (),
        min_confidence=_share(words["min_confidence"], "min_confidence"),
        max_confidence=_share(words["max_confidence"], "max_confidence"),
        min_score=_share(words["min_score"], "min_score"),
        max_score=_share(words["max_score"], "max_score"),
        model=words["model"] or None,
        text=_text(words["q"]),
        inbox=_path(words["inbox"]),
        series_id=whole_number(words["series"], "series", None, _MOST_ID),
        review=_one_of(ReviewFilter, words["review"], "review") if words["review"] else None,
        sort=_one_of(Sort, words["sort"] or "time", "sort"),
        reverse=_one_word(words["order"], ("", "reverse"), "order") == "reverse",
        limit=whole_number(words["n"], "n", PAGE, _MOST),
        study_of=whole_number(words["study"], "study", None, _MOST_ID),
        patient_of=whole_number(words["patient"], "patient", None, _MOST_ID),
    )
    if after := params.get("after"):
        query = replace(query, after=decode_key(after, query.sort))
    by = _one_of(Grouping, words["by"] or "series", "by")
    page = whole_number(params.get("page", ""), "page", 1, _MOST_ID)
    view = _one_of(View, words["view"] or "table", "view")
    return Asked(query, {name: value for name, value in words.items() if value}, by, page or 1, view)


def inbox_word(path: bytes) -> str:
    """Return an inbox's path as a word for an address; bytes that are no text survive."""
    try:
        return path.decode()
    except UnicodeDecodeError:
        return _HEX + path.hex()


def _last(given: Sequence[str]) -> str:
    """Return the last word that says something: an empty field of a form takes nothing back."""
    return next((word.strip() for word in reversed(given) if word.strip()), "")


def _text(word: str) -> str:
    if len(word) > _LONGEST_TEXT:
        raise UsageError(f"q has {len(word):,} characters; nothing has a name of more than {_LONGEST_TEXT:,}")
    return word


def _path(word: str) -> bytes | None:
    if not word:
        return None
    try:
        return bytes.fromhex(word.removeprefix(_HEX)) if word.startswith(_HEX) else os.fsencode(word)
    except ValueError:
        raise UsageError("inbox must be a path, as in the addresses of this page") from None


def encode_key(key: Key) -> str:
    """Return a row's key as a word for an address; bytes survive."""
    value, row = key
    told = {"b": value.hex()} if isinstance(value, bytes) else value
    return base64.urlsafe_b64encode(json.dumps([told, row]).encode()).decode().rstrip("=")


def decode_key(text: str, sort: Sort) -> Key:
    """Return what `encode_key` was given; raise UsageError for anything else."""
    try:
        value, row = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if isinstance(value, dict):
            value = bytes.fromhex(value["b"])
        wanted = {Sort.FILE: bytes, Sort.CLASS: str}.get(sort, (int, float))
        if isinstance(value, wanted) and isinstance(row, int) and _fits(value) and _fits(row):
            return value, row
    except (ValueError, KeyError, TypeError, binascii.Error, RecursionError):
        pass
    raise UsageError("that page does not exist", hint="begin again at the first page")


def _fits(value: object) -> bool:
    """Whether a number is one that a database holds; JSON knows NaN and whole numbers of any length."""
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, int) or abs(value) < 1 << 63


def _time(word: str, now: datetime, zone: tzinfo) -> int | None:
    return None if word in {"", "all"} else microseconds(parse_when(word, now, zone))


def _one_of(kind: type[_Word], word: str, name: str) -> _Word:
    return kind(_one_word(word, [one.value for one in kind], name))


def _one_word(word: str, known: Sequence[str], name: str) -> str:
    if word not in known:
        raise UsageError(f"{name} must be one of {', '.join(filter(None, known))}")
    return word


def _share(word: str, name: str) -> float | None:
    if not word:
        return None
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise UsageError(f"{name} must be a number between 0 and 1")
    return value


def whole_number(word: str, name: str, default: int | None, most: int) -> int | None:
    """Return a number from 1 to `most`, the default for no word; raise UsageError for anything else."""
    if not word:
        return default
    if not (word.isascii() and word.isdecimal() and len(word) <= len(str(most)) and 1 <= int(word) <= most):
        raise UsageError(f"{name} must be a number from 1 to {most}")
    return int(word)
