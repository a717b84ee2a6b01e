"""Summary of what people said: the random sample beside the model's card, in words and on the pages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from daemon.views.review_summary import SAMPLE, ModelReviews, review_summary
from daemon.web.pages.render import environment
from storage.database import open_reader
from storage.query import Query
from storage.schema import ReviewOrigin
from tests.support.ledgers import Store
from tests.support.reviews import OTHER, answer_queue, open_scored, said, say

CARD = {"sensitivity": 0.9, "specificity": 0.9, "accuracy": 0.9}
RANDOM = (ReviewOrigin.RANDOM,)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Forty images with a high score, and forty with a low one."""
    opened = open_scored(tmp_path / "x.db", [0.9, 0.1] * 40)
    yield opened
    opened.close()


def _said_of(store: Store, card: Mapping[str, float] = CARD) -> ModelReviews:
    with closing(open_reader(store.path)) as connection:
        (found,) = review_summary(connection, Query(), lambda _: card).models
    return found


def _truth(file_id: int, wrong: int) -> str:
    """Return what a person says: of the first `wrong` images the model called free, that it is a tumour."""
    return "tumour" if file_id % 2 or file_id <= 2 * wrong else "no_tumour"


def test_a_figure_lower_than_the_cards_beyond_chance_is_a_warning(store: Store) -> None:
    answer_queue(store, RANDOM, 80, lambda number: _truth(number, wrong=20))

    found = _said_of(store)
    rows = {row.figure: row for row in found.sample}

    assert (rows["sensitivity"].share.k, rows["sensitivity"].share.n) == (40, 60)
    assert rows["sensitivity"].differs == "lower"
    assert rows["specificity"].differs is None
    assert found.caveat == "lower than the model's card says, beyond chance: sensitivity, accuracy"


def test_few_images_are_said_to_be_few_and_of_none_nothing_is_known(store: Store) -> None:
    say(store, said(1, "tumour"))
    before = _said_of(store)
    answer_queue(store, RANDOM, 5, lambda number: _truth(number, wrong=40))

    after = _said_of(store)

    assert before.caveat == "no random sample yet, so nothing is known of sensitivity and specificity here"
    assert before.sample == ()
    assert re.fullmatch(r"the random sample has \d images only: too few to conclude from", after.caveat)
    assert not after.is_worse


def test_all_answers_give_agreement_but_no_sensitivity(store: Store) -> None:
    say(store, said(1, "tumour"), said(3, "no_tumour"), said(5, OTHER), said(7, "tumour"))
    say(store, said(7, "no_tumour", "bob"))

    found = _said_of(store)

    assert found.agreement == "33 % (6 to 79), 1 of 3"
    assert found.counts == "4 images answered, 1 disputed, 1 of another kind"
    assert {row.figure for row in found.rows if row.images != SAMPLE} == {"agreement", "wrongly rejected"}


def test_the_section_of_a_page_shows_the_figures_beside_the_cards(store: Store) -> None:
    answer_queue(store, RANDOM, 80, lambda number: _truth(number, wrong=20))
    with closing(open_reader(store.path)) as connection:
        summary = review_summary(connection, Query(), lambda _: CARD)

    page = _section(summary)

    assert "80 images answered" in page
    assert page.count("<circle") == 3
    assert page.count('class="threshold"') == 3
    assert page.count('<g class="interval is-lower">') == 2
    assert re.search(
        r"<td>sensitivity</td><td>67\u00a0% \(54 to 77\), 40 of 60 <span[^>]*>lower</span>", page
    )
    assert '<td class="number">90\u00a0%</td>' in page
    assert '<p class="warning">Lower than' in page
    assert "style=" not in page
    assert "<script" not in page


def test_without_reviews_a_page_has_no_such_section(store: Store) -> None:
    with closing(open_reader(store.path)) as connection:
        assert _section(review_summary(connection, Query(), lambda _: CARD)).strip() == ""


def _section(summary: object) -> str:
    template = environment().from_string(
        '{% from "reviews_section.html" import reviews with context %}{{ reviews(summary) }}'
    )
    return template.render(summary=summary)
