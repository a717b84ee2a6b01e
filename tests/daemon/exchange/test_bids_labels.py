"""Labels are letters and digits, one for each name."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from daemon.exchange.bids_labels import bids_labels


def test_names_that_are_labels_already_stay_as_they_are() -> None:
    names = ("sub-01", "ses-Pre", "13266b018a88")

    assert bids_labels(names) == {"sub-01": "01", "ses-Pre": "Pre", "13266b018a88": "13266b018a88"}


def test_other_characters_and_endings_are_left_out() -> None:
    found = bids_labels(["TCGA_CS_4941", "scans/head 1.nii.gz", "1.2.840.10008"])

    assert list(found.values()) == ["TCGACS4941", "scanshead1", "1284010008"]


def test_names_that_would_be_the_same_label_are_told_apart() -> None:
    found = bids_labels(["a-1", "A1", "b"])

    assert len({label.casefold() for label in found.values()}) == 3
    assert found["a-1"].startswith("a1")
    assert found["b"] == "b"


@given(st.sets(st.text(max_size=8), max_size=12))
def test_any_names_have_labels_of_their_own(names: set[str]) -> None:
    found = bids_labels(names)

    assert found.keys() == names
    assert all(label.isalnum() and label.isascii() for label in found.values())
    assert len({label.casefold() for label in found.values()}) == len(names)
