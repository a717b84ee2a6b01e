"""Which observations become a message, and when."""

from __future__ import annotations

import pytest

from daemon.notify.changes import COUNT_SECONDS, START_SECONDS, STATE_SECONDS, Changes
from daemon.notify.notice import Notice
from daemon.notify.observation import Observation
from daemon.views.health_check import Health, HealthCause, Reason, Word

CANARY = "Zanzibarra"


def seen(*causes: HealthCause, quarantined: int = 0, drifting: tuple[str, ...] = ()) -> Observation:
    """An observation whose reasons name a path, as those for the operator do."""
    word = Word.DOWN if HealthCause.SILENT in causes else Word.DEGRADED if causes else Word.HEALTHY
    told = tuple(Reason(cause, f"/srv/{CANARY} is away", 1) for cause in causes)
    return Observation(1, Health(word, told, CANARY), quarantined, frozenset(drifting))


@pytest.fixture
def changes() -> Changes:
    return Changes(seen(), 0.0)


def events(notices: list[Notice]) -> list[str]:
    return [notice.event.value for notice in notices]


def test_trouble_and_its_end_are_told_once_with_their_causes_and_without_a_name(changes: Changes) -> None:
    ill = seen(HealthCause.INBOX, HealthCause.STUCK)

    (degraded,) = changes.of(ill, 100)
    assert changes.of(ill, 102) == []
    (recovered,) = changes.of(seen(), 200)

    assert degraded.details == {"health": "degraded", "causes": ["inbox_degraded", "worker_stuck"]}
    assert recovered.details == {"health": "healthy", "causes": []}
    assert events([degraded, recovered]) == ["degraded", "recovered"]
    assert CANARY not in f"{degraded.payload('h')!r}{recovered.payload('h')!r}"
    assert "\n" not in degraded.text
    assert changes.of(seen(), 300) == []


def test_one_more_cause_is_news_and_one_less_is_not(changes: Changes) -> None:
    assert events(changes.of(seen(HealthCause.INBOX), 100)) == ["degraded"]
    assert events(changes.of(seen(HealthCause.INBOX, HealthCause.MOVES), 200)) == ["degraded"]
    assert changes.of(seen(HealthCause.MOVES), 300) == []
    assert events(changes.of(seen(HealthCause.MOVES, HealthCause.INBOX), 400)) == ["degraded"]


def test_a_state_that_comes_and_goes_is_told_now_and_then_with_a_count(changes: Changes) -> None:
    """Of 200 changes in 20 s two are told; what came after them ended as it was told."""
    told = []
    for tick in range(200):
        told += changes.of(seen(*([HealthCause.INBOX] if tick % 2 == 0 else [])), 100 + tick / 10)
    told += changes.of(seen(), 100 + 20 + STATE_SECONDS)

    assert events(told) == ["degraded", "recovered"]
    assert [notice.count for notice in told] == [1, 101]


def test_a_full_disk_has_messages_of_its_own(changes: Changes) -> None:
    assert events(changes.of(seen(HealthCause.NOT_STORED), 100)) == ["not_stored"]
    assert events(changes.of(seen(), 200)) == ["stored_again"]


def test_a_daemon_whose_loop_does_not_turn_is_down(changes: Changes) -> None:
    assert events(changes.of(seen(HealthCause.SILENT), 100)) == ["down"]


def test_a_start_is_no_trouble_until_it_takes_too_long(changes: Changes) -> None:
    assert changes.of(seen(HealthCause.STARTING), 1) == []
    assert changes.of(seen(HealthCause.NOT_READY), START_SECONDS - 1) == []
    assert events(changes.of(seen(HealthCause.NOT_READY), START_SECONDS)) == ["degraded"]


def test_quarantine_is_told_at_once_and_then_by_the_minute(changes: Changes) -> None:
    (first,) = changes.of(seen(quarantined=1), 100)
    assert [changes.of(seen(quarantined=n), 100 + n) for n in range(2, 50)] == [[]] * 48
    (second,) = changes.of(seen(quarantined=50), 100 + COUNT_SECONDS)

    assert (first.count, second.count) == (1, 49)
    assert second.details == {"quarantined": 50}


def test_what_retry_took_out_of_quarantine_is_not_told(changes: Changes) -> None:
    changes.of(seen(quarantined=10), 100)
    assert changes.of(seen(quarantined=2), 200) == []
    (told,) = changes.of(seen(quarantined=3), 300)

    assert told.count == 1


def test_what_was_so_before_the_start_is_no_news() -> None:
    changes = Changes(seen(quarantined=7, drifting=("score",)), 0.0)

    assert changes.of(seen(quarantined=7, drifting=("score",)), 100) == []
    assert events(changes.of(seen(quarantined=7), 200)) == ["drift_over"]
    assert events(changes.of(seen(quarantined=7, drifting=("distance",)), 300)) == ["drift"]
