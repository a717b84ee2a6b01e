"""Match class names as people type them: any case, several separated by commas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from config import parse
from config.text import printable
from daemon.views.listing import say

if TYPE_CHECKING:
    import sqlalchemy as sa

    from config.options import Invocation
    from daemon.views.result_options import ResultRequest


def with_known_classes(
    connection: sa.Connection | None, request: ResultRequest, invocation: Invocation
) -> ResultRequest:
    """Return the request for classes as they are stored; tell of a class that no result has.

    Without a connection (no database yet) names are taken as they were typed.
    """
    from storage.queries.results import labels

    given = request.query.labels
    if not given:
        return request
    known = [] if connection is None else labels(connection)
    meant = tuple(dict.fromkeys(_meant(given, known)))
    for name in meant:
        if known and name not in known:
            say(
                invocation,
                f"no result has the class {_quoted(name)}; there are {', '.join(map(_quoted, known))}",
            )
    return replace(request, query=replace(request.query, labels=meant))


def _meant(given: Sequence[str], known: Sequence[str]) -> Iterator[str]:
    for text in given:
        if text in known:  # a name may hold a comma
            yield text
            continue
        for name in parse.texts(text) or (text,):
            alike = [one for one in known if one.casefold() == name.casefold()]
            yield from [name] if name in known else alike or [name]


def _quoted(name: str) -> str:
    return printable(repr(name))
