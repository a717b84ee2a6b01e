"""What waits for a receiver: in order, tried again, bounded."""

from __future__ import annotations

import logging
import time

import pytest

from daemon.log import CauseLog
from daemon.notify.notice import Notice, NoticeEvent
from daemon.notify.outbox import RETRY_SECONDS, Outbox
from daemon.notify.receivers import Webhook
from tests.support.webhooks import Webhooks, webhooks


def outbox(hooks: Webhooks) -> Outbox:
    log = CauseLog(logging.getLogger("bt-daemon.test"), time.monotonic)
    return Outbox(Webhook(hooks.address, seconds=0.5), "h", log)


def notice(topic: str, count: int = 1, event: NoticeEvent = NoticeEvent.RESULT) -> Notice:
    return Notice(event, topic, 1, topic, {}, count)


def test_messages_are_sent_in_the_order_of_their_topics() -> None:
    with webhooks() as hooks:
        box = outbox(hooks)
        box.add(notice("health", event=NoticeEvent.DEGRADED))
        box.add(notice("drift", event=NoticeEvent.DRIFT))
        box.send_one(0)
        box.send_one(0)

    assert hooks.events == ["degraded", "drift"]
    assert box.due() == float("inf")


@pytest.mark.parametrize("answer", [500, 0, -1])
def test_what_did_not_arrive_is_sent_later_with_growing_waits(answer: int) -> None:
    with webhooks() as hooks:
        hooks.answer = answer
        box = outbox(hooks)
        box.add(notice("health"))
        waits, now = [], 0.0
        for _ in range(3):
            box.send_one(now)
            waits.append(box.due() - now)
            now = box.due()
        assert waits == list(RETRY_SECONDS[:3])
        hooks.answer = 200
        hooks.released.set()
        box.send_one(now)

    assert len(hooks.bodies) == 1
    assert box.due() == float("inf")


def test_a_flood_becomes_one_message_a_topic_with_the_sum(caplog: pytest.LogCaptureFixture) -> None:
    with webhooks() as hooks:
        hooks.answer = 500
        box = outbox(hooks)
        for number in range(100_000):
            box.add(notice(f"topic {number % 3}"))
            if number % 20_000 == 0:
                box.send_one(0)
        assert len(box._waiting) == 3
        hooks.answer = 200
        for _ in range(3):
            box.send_one(0)

    assert sorted(one["details"]["count"] for one in hooks.told) == [33_333, 33_333, 33_334]


def test_what_never_arrives_is_given_up_and_said_once_without_the_secret(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with webhooks() as hooks, caplog.at_level(logging.WARNING):
        hooks.answer = 503
        box = outbox(hooks)
        box.add(notice("health"))
        tries = 0
        while box.due() < float("inf"):
            box.send_one(box.due())
            tries += 1

    assert tries == len(RETRY_SECONDS) + 1
    assert [line for line in caplog.messages if "never reached" in line] == [
        f"1 notification never reached http://127.0.0.1:{hooks.port} (it answers 503); what happened is in "
        "this log and in bt-daemon status"
    ]
    assert len(caplog.messages) == 2
    assert "secret" not in caplog.text


def test_what_the_receiver_refuses_for_good_is_not_tried_again() -> None:
    with webhooks() as hooks:
        hooks.answer = 404
        box = outbox(hooks)
        box.add(notice("health"))
        box.send_one(0)

    assert box.due() == float("inf")
