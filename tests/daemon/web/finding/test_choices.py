"""Addresses of the results page: hostile ones are refused in words, and links ask what they say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from config.errors import UsageError
from daemon.web.address import View, asked, inbox_word
from daemon.web.finding.choices import groups, headings, times
from storage.queries.facets import Facet, Facets
from storage.query import ReviewFilter, Sort

_WORDS = ("since", "until", "class", "status", "q", "min_score", "model", "sort", "order", "n", "inbox",
          "series", "review", "view", "after")  # fmt: skip


def _found(**parts: list[Facet]) -> Facets:
    empty: Mapping[str, list[Facet]] = {name: [] for name in ("labels", "statuses", "models", "inboxes")}
    return Facets(**{**empty, "series": None, "reviews": None, "exact": True, **parts})  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(_WORDS), st.text(max_size=30)), max_size=5))
def test_any_address_is_understood_or_refused_in_one_line(words: list[tuple[str, str]]) -> None:
    try:
        found = asked(QueryParams(words), UTC)
    except UsageError as error:
        what = error.what
        found = None
    if found is None:
        assert what and "\n" not in what  # noqa: PT018
        return
    assert asked(QueryParams(urlsplit(found.address("/results")).query), UTC).words == found.words


@pytest.mark.parametrize(
    "words",
    ["status=maybe", "review=liked", "view=wall", "series=0", "series=x", "series=" + "9" * 30,
     "inbox=hex:zz", "sort=size", "q=" + "x" * 5_000, "since=2026-13-01",
     "min_score=2", "after=e30", "n=501"],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(words: str) -> None:
    with pytest.raises(UsageError):
        asked(QueryParams(words), UTC)


def test_words_are_taken_for_what_they_say() -> None:
    found = asked(
        QueryParams("inbox=/srv/in&series=7&review=other-kind&view=pictures&since=today&since="), UTC
    )

    assert found.query.inbox == b"/srv/in"
    assert found.query.series_id == 7
    assert found.query.review is ReviewFilter.OTHER_KIND
    assert found.view is View.PICTURES
    assert found.words["since"] == "today"  # an empty field of the form takes nothing back


@given(st.binary(min_size=1, max_size=20))
def test_an_inbox_of_any_bytes_survives_its_address(path: bytes) -> None:
    word = inbox_word(b"/" + path)
    found = asked(QueryParams([("inbox", word)]), UTC)

    if word.strip() == word:
        assert found.query.inbox == b"/" + path


def test_a_choice_narrows_and_taken_again_widens() -> None:
    found = _found(statuses=[Facet("ok", "ok", 5), Facet("error", "error", 2)])
    wide = groups(found, asked(QueryParams("q=a"), UTC), {})[0]
    narrow = groups(found, asked(QueryParams("q=a&status=ok"), UTC), {})[0]

    assert [(one.name, one.count, one.is_chosen) for one in wide.choices] == [
        ("ok", 5, False),
        ("error", 2, False),
    ]
    assert parse_qs(urlsplit(wide.choices[0].address).query) == {"q": ["a"], "status": ["ok"]}
    assert narrow.chosen == "ok"
    assert parse_qs(urlsplit(narrow.choices[0].address).query) == {"q": ["a"]}


def test_a_choice_that_nothing_has_can_be_taken_back() -> None:
    (only,) = groups(_found(), asked(QueryParams("class=nobody"), UTC), {})

    assert (only.title, only.chosen, only.choices[0].count) == ("Class", "nobody", 0)
    assert only.choices[0].address == "/results"


@pytest.mark.parametrize(
    ("words", "name", "told", "address"),
    [
        ("", "time", "descending", {"order": ["reverse"]}),
        ("order=reverse", "time", "ascending", {}),
        ("sort=file", "file", "ascending", {"sort": ["file"], "order": ["reverse"]}),
        ("sort=score", "score", "descending", {"sort": ["score"], "order": ["reverse"]}),
        ("sort=file", "score", "", {"sort": ["score"]}),
    ],
)
def test_a_header_sorts_and_then_turns_round(words: str, name: str, told: str, address: object) -> None:
    found = {one.name: one for one in headings(asked(QueryParams(words), UTC))}[name]

    assert found.aria_sort == told
    assert parse_qs(urlsplit(found.address).query) == address


def test_every_order_but_that_of_programs_has_a_header() -> None:
    names = {one.name for one in headings(asked(QueryParams(""), UTC))}

    assert {one.value for one in Sort} - names == {"id", "confidence"}


def test_quick_times_take_the_other_end_back() -> None:
    found = times(asked(QueryParams("since=today&until=now"), UTC))

    assert not any(one.is_chosen for one in found)
    assert found[1].address == "/results?since=today"
