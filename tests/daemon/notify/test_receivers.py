"""Messages to real HTTP receivers that work, hang, fail, redirect and close."""

from __future__ import annotations

import base64
import re
import time

import pytest

import config.extras
import daemon.notify.receivers
from config.errors import UsageError
from config.settings import resolve
from daemon.notify.notice import Notice, NoticeEvent
from daemon.notify.receivers import DeliveryError, Webhook, check_notify, failing, receivers
from daemon.notify.result_rule import ResultRule, result_rules
from tests.support.webhooks import webhooks

NOTICE = Notice(NoticeEvent.DEGRADED, "health", 1_795_507_200_000_000, "degraded: é", {"causes": ["x"]}, 2)
# What a library warns of its own regular expressions is no fault of ours.
own_warnings = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_webhook_gets_json() -> None:
    with webhooks() as hooks:
        Webhook(hooks.address).deliver(NOTICE, "scanner-3")

    (told,) = hooks.told
    assert told == {
        "event": "degraded",
        "time": "2026-11-24T08:00:00.000+00:00",
        "host": "scanner-3",
        "text": "bt-daemon on scanner-3: degraded: é",
        "details": {"causes": ["x"], "count": 2},
        "notice": "Not a medical device: research use only, never for diagnosis or treatment.",
    }
    assert hooks.asked == [("POST", "/hook?key=secret")]
    assert hooks.headers[0]["Content-Type"] == "application/json"
    assert hooks.headers[0]["User-Agent"].startswith("bt-daemon/")


@pytest.mark.parametrize(
    ("answer", "why", "lasting"),
    [
        (500, "it answers 500", False),
        (429, "it answers 429", False),
        (404, "it answers 404", True),
        (302, "it answers 302", True),
        (0, "timed out", False),
        (-1, "", False),
    ],
)
def test_what_did_not_arrive_is_known_and_no_error_names_the_address(
    answer: int, why: str, lasting: bool
) -> None:
    with webhooks() as hooks:
        hooks.answer = answer
        began = time.monotonic()
        with pytest.raises(DeliveryError) as caught:
            Webhook(hooks.address, seconds=0.5).deliver(NOTICE, "h")

    assert time.monotonic() - began < 5
    assert why in str(caught.value)
    assert caught.value.lasting is lasting
    assert "secret" not in str(caught.value)
    assert hooks.bodies == []
    assert len(hooks.asked) == 1  # a redirect is not followed


def test_nobody_listening_is_known() -> None:
    with webhooks() as hooks:
        address = hooks.address
    with pytest.raises(DeliveryError, match="Connection refused"):
        Webhook(address).deliver(NOTICE, "h")


def test_user_and_password_of_an_address_become_a_header() -> None:
    with webhooks() as hooks:
        address = hooks.address.replace("http://", "http://mri:p%40ss@")
        webhook = Webhook(address)
        webhook.deliver(NOTICE, "h")

    assert hooks.headers[0]["Authorization"] == f"Basic {base64.b64encode(b'mri:p@ss').decode()}"
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", webhook.shown)


@own_warnings
def test_other_schemes_go_through_apprise() -> None:
    pytest.importorskip("apprise")
    with webhooks() as hooks:
        (receiver,) = receivers([f"json://127.0.0.1:{hooks.port}/secret"])
        receiver.deliver(NOTICE, "scanner-3")

    told = str(hooks.bodies[0])
    assert "bt-daemon on scanner-3: degraded" in told
    assert "Not a medical device" in told
    assert receiver.shown == "json://..."


@own_warnings
def test_address_that_apprise_does_not_know_is_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("apprise")
    (receiver,) = receivers(["nosuchservice://secret"])
    with pytest.raises(DeliveryError, match="does not know"):
        receiver.check()
    with pytest.raises(DeliveryError, match="does not know") as caught:
        receiver.deliver(NOTICE, "h")

    assert caught.value.lasting
    assert "secret" not in caplog.text


def test_without_apprise_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon.notify.receivers, "installed", lambda name: name != "apprise")

    with pytest.raises(UsageError) as caught:
        receivers(["mailto://user:secret@example.org"])

    assert caught.value.exit_code == 2
    assert config.extras.install_hint("notify") in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "flags",
    [
        {"notify": "example.org/hook"},
        {"notify": "http://"},
        {"notify": "https://host:port/x"},
        {"ping": "ftp://example.org"},
        {"ping": "nothing"},
        {"notify_when": "yes"},
    ],
)
def test_address_that_cannot_be_meant_is_refused(flags: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        check_notify(resolve(flags, {}).settings)


def test_several_receivers_come_from_flags_environment_and_file() -> None:
    assert resolve({"notify": ("http://a/1,http://b/2", "http://c/3")}, {}).settings.notify == (
        "http://a/1",
        "http://b/2",
        "http://c/3",
    )
    assert resolve({}, {"BT_NOTIFY": "http://a/1"}).settings.notify == ("http://a/1",)


def test_rules_for_results() -> None:
    assert result_rules(["yes:0.9", "no", "a:b"], ["no", "yes", "a:b"]) == (
        ResultRule("yes", 0.9),
        ResultRule("no"),
        ResultRule("a:b"),
    )


@pytest.mark.parametrize("text", ["maybe", "yes:", "yes:2", "yes:nan", "yes:high", "maybe:0.5"])
def test_rule_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        result_rules([text], ["no", "yes"])


def test_failing_ping_keeps_the_query() -> None:
    assert failing("https://hc.example/uuid") == "https://hc.example/uuid/fail"
    assert failing("https://hc.example/uuid/?rid=1") == "https://hc.example/uuid/fail?rid=1"
