"""Who may send."""

from __future__ import annotations

import pytest

from config.errors import UsageError
from daemon.listen.callers import Callers, parse_caller


@pytest.mark.parametrize(
    ("allowed", "title", "address", "may"),
    [
        ("MRI1", "MRI1", "10.9.9.9", True),
        ("MRI1", "mri1", "10.9.9.9", False),  # AE titles are case-sensitive
        ("MRI1", "MRI10", "10.9.9.9", False),
        ("10.0.0.5", "ANY", "10.0.0.5", True),
        ("10.0.0.5", "ANY", "10.0.0.50", False),
        ("10.0.0.0/24", "ANY", "10.0.0.50", True),
        ("10.0.0.7/24", "ANY", "10.0.0.50", True),
        ("10.0.0.0/24", "ANY", "::ffff:10.0.0.50", True),  # an IPv4 caller of an IPv6 socket
        ("10.0.0.0/24", "ANY", "fe80::1%eth0", False),
        ("fe80::/10", "ANY", "fe80::1%eth0", True),
        ("MRI1@10.0.0.5", "MRI1", "10.0.0.5", True),
        ("MRI1@10.0.0.5", "MRI1", "10.0.0.6", False),
        ("MRI1@10.0.0.5", "MRI2", "10.0.0.5", False),
        ("A@B@10.0.0.5", "A@B", "10.0.0.5", True),
    ],
)
def test_a_caller_is_known_by_title_address_or_both(
    allowed: str, title: str, address: str, may: bool
) -> None:
    assert Callers([parse_caller(allowed)]).allow(title, address) is may


def test_one_of_several_callers_is_enough_and_none_named_is_everybody() -> None:
    several = Callers([parse_caller("MRI1@10.0.0.5"), parse_caller("10.1.0.0/16")])

    assert several.allow("X", "10.1.2.3")
    assert not several.allow("X", "10.0.0.5")
    assert several.may_connect("10.0.0.5")
    assert not several.may_connect("10.0.0.6")
    assert Callers([]).allow("X", "203.0.113.9")


@pytest.mark.parametrize(
    "text", ["MRI1@nowhere", "@10.0.0.5", "A_TITLE_THAT_IS_TOO_LONG", "back\\slash", "new\nline", "", "MRI1@"]
)
def test_what_cannot_be_a_caller_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_caller(text)

    assert "--allow" in str(caught.value)
    assert "\n" not in str(caught.value)
