"""Class names as people type them: any case, several at a time, and none that is not there unsaid."""

from __future__ import annotations

import pytest

from daemon.views.class_names import _meant

KNOWN = ["no", "Yes", "yes, large"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (("yes",), ["Yes"]),
        (("NO,YES",), ["no", "Yes"]),
        (("yes, large",), ["yes, large"]),  # a name may hold a comma
        (("no", "other"), ["no", "other"]),
        (("no, ,yes",), ["no", "Yes"]),
    ],
)
def test_typed_names_become_the_stored_ones(typed: tuple[str, ...], meant: list[str]) -> None:
    assert list(_meant(typed, KNOWN)) == meant
