"""Leases of images to reviewers."""

from __future__ import annotations

from daemon.web.reviewing.leases import Leases


def test_an_image_is_kept_from_others_until_its_lease_runs_out() -> None:
    now = [0.0]
    leases = Leases(seconds=10.0, monotonic=lambda: now[0])
    leases.take("Ann", [1, 2])

    assert leases.of_others("Bob") == {1, 2}
    assert leases.of_others("Ann") == frozenset()
    now[0] = 10.0
    assert leases.of_others("Bob") == frozenset()


def test_an_answered_image_is_free() -> None:
    leases = Leases()
    leases.take("Ann", [1, 2])
    leases.end(1)

    assert leases.of_others("Bob") == {2}


def test_memory_is_bounded_and_the_oldest_leases_go() -> None:
    leases = Leases()
    for number in range(10_100):
        leases.take("Ann", [number])

    held = leases.of_others("Bob")
    assert (len(held), 10_099 in held, 0 in held) == (10_000, True, False)
