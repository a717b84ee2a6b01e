"""Search for a text in paths and reasons, bounded in time: which files and results have it.

It means what `Query.text` means everywhere (part of the path or of the reason, ASCII letters in either
case), but folders and reasons are looked through once each, and then only names, newest first. A text that
few names have ends in a list of them; one that many have is looked for again row by row, and soon met.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage.database import reading
from storage.portable_sql import among, contains, lowered, tail
from storage.queries.budget import Budget, pieces
from storage.schema import file, folder, reason, result

# With more matches than this the list is given up; so many take about twenty milliseconds to be joined.
MOST = 30_000


@dataclass(frozen=True, slots=True)
class TextMatch:
    """Where a text is."""

    term: sa.ColumnElement[bool]  # of results joined with their files
    is_list: bool  # the term is a list of at most `MOST` files and results
    searched: int | None  # how many files, the newest, were looked through; None: all


def find_text(connection: sa.Connection, text: str, budget: Budget) -> TextMatch:
    """Return where `text` is: by list while the budget and `MOST` suffice, else as a term to be tried."""
    with reading(connection):
        folders = _ids(connection, sa.select(folder.c.id).where(contains(folder.c.path, text)))
        reasons = _ids(connection, sa.select(reason.c.id).where(contains(reason.c.text, text)))
        named = _file_term(connection, text, folders)
        by_reason = among(result.c.reason_id, reasons)
        files, searched = _matches(connection, file.c.id, named, budget)
        results: list[int] = []
        if files is not None and reasons:
            found, too = _matches(connection, result.c.id, by_reason, budget)
            files, results, searched = (
                (None, [], searched) if found is None else (files, found, searched or too)
            )
    if files is None:
        return TextMatch(named | by_reason if reasons else named, is_list=False, searched=None)
    term: sa.ColumnElement[bool] = among(result.c.file_id, files)
    if results:
        term |= among(result.c.id, results)
    return TextMatch(term, is_list=True, searched=searched)


def _matches(
    connection: sa.Connection, ids: sa.ColumnElement[int], term: sa.ColumnElement[bool], budget: Budget
) -> tuple[list[int] | None, int | None]:
    """Return the rows that match, None for too many, and how many were looked at, None for all."""
    last = connection.execute(sa.select(sa.func.max(ids))).scalar() or 0
    found: list[int] = []
    reached = last
    for lower, upper in pieces(last, budget):
        statement = sa.select(ids).where(ids > lower, ids <= upper, term).limit(MOST + 1 - len(found))
        found += connection.execute(statement).scalars()
        if len(found) > MOST:
            return None, None
        reached = lower
    return found, last - reached if reached else None


def _file_term(connection: sa.Connection, text: str, folders: list[int]) -> sa.ColumnElement[bool]:
    """Return what a file's name or folder must be for its path to have the text."""
    terms = [among(file.c.folder_id, folders)] if folders else []
    # A name has no slash: one in the text is inside the folder's path, or the one between it and the name.
    above, slash, begin = text.rpartition("/")
    if not slash:
        return sa.or_(contains(file.c.name, text), *terms)
    wanted, ending = os.fsencode(begin).lower(), os.fsencode(above).lower()
    in_it = lowered(tail(folder.c.path, len(ending))) == ending if ending else folder.c.path != b""
    below = _ids(connection, sa.select(folder.c.id).where(in_it, folder.c.path != b""))
    begins = sa.func.substr(file.c.name, 1, len(wanted), type_=sa.LargeBinary)
    starts = lowered(begins) == wanted if wanted else sa.true()
    return sa.or_(among(file.c.folder_id, below) & starts, *terms)


def _ids(connection: sa.Connection, statement: sa.Select[Any]) -> list[int]:
    return list(connection.execute(statement).scalars())
