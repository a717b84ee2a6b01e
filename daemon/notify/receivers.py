"""Receivers: addresses of `--notify` and `--ping`, and how one request or message gets there.

An address may hold a secret: errors and the log name scheme and host alone.
"""

from __future__ import annotations

import base64
import http.client
import logging
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from config.errors import UsageError
from config.extras import installed, not_installed
from config.text import DISCLAIMER, printable
from daemon.notify.notice import Notice
from daemon.version import program_version

if TYPE_CHECKING:
    import apprise

    from config.settings import Settings

SECONDS = 10.0  # for a connection, and for each part of an answer
_WEB = ("http", "https")


class DeliveryError(Exception):
    """A message did not arrive; its words name no address."""

    def __init__(self, why: str, *, lasting: bool = False) -> None:
        """`lasting`: to send the same again changes nothing."""
        super().__init__(why)
        self.lasting = lasting


class NoticeReceiver(Protocol):
    """Where messages go."""

    shown: str  # safe for the log

    def check(self) -> None:
        """Raise DeliveryError if no message can ever get there, as far as is known without sending one."""

    def deliver(self, notice: Notice, host: str) -> None:
        """Send one message; raise DeliveryError."""


class Webhook:
    """Takes a message as JSON by POST."""

    def __init__(self, address: str, seconds: float = SECONDS) -> None:
        self.shown = _shown(address)
        self._address = address
        self._seconds = seconds

    def check(self) -> None:
        """Nothing to check: the address was when the daemon started."""

    def deliver(self, notice: Notice, host: str) -> None:
        """Post one message; raise DeliveryError."""
        request(self._address, notice.payload(host), seconds=self._seconds)


class AppriseReceiver:
    """Any other service that the library apprise knows; it is imported by the thread that sends."""

    def __init__(self, address: str) -> None:
        self.shown = _shown(address)
        self._address = address

    def check(self) -> None:
        """Raise DeliveryError if apprise does not know the address."""
        self._opened()

    def deliver(self, notice: Notice, host: str) -> None:
        """Send one message as text; raise DeliveryError."""
        service = self._opened()
        body = f"{notice.line(host)}\n{DISCLAIMER}"
        with _failures_of_apprise():
            arrived = service.notify(title=f"bt-daemon: {notice.event.value}", body=body)
        if not arrived:
            raise DeliveryError("apprise could not deliver it")

    def _opened(self) -> apprise.Apprise:
        with _failures_of_apprise():
            import apprise

            logging.getLogger("apprise").disabled = True  # it names whole addresses
            service = apprise.Apprise()
            is_known = service.add(self._address)
        if not is_known:
            raise DeliveryError("apprise does not know this address", lasting=True)
        return service


@contextmanager
def _failures_of_apprise() -> Iterator[None]:
    """Whatever one of its many plugins raises is a message that did not arrive."""
    try:
        yield
    except Exception as error:
        raise DeliveryError(f"apprise failed ({type(error).__name__})") from error


def receivers(addresses: Sequence[str]) -> list[NoticeReceiver]:
    """Return the receivers of `--notify`.

    Raises UsageError for what is no address, and where the extra `notify` is needed and not installed.
    """
    return [_receiver(address) for address in addresses]


def check_notify(settings: Settings) -> None:
    """Raise UsageError for addresses of `--notify` and `--ping` that cannot be meant."""
    receivers(settings.notify)
    if settings.notify_when and not settings.notify:
        raise UsageError("--notify-when needs somebody to tell", hint="give --notify URL")
    if settings.ping:
        _check("--ping", settings.ping)
        if urllib.parse.urlsplit(settings.ping).scheme not in _WEB:
            raise UsageError("--ping: a ping is http or https", hint="write --ping https://HOST/PATH")


def failing(address: str) -> str:
    """Return where a ping goes while the daemon is degraded: `/fail` behind the path, the query as it was."""
    parts = urllib.parse.urlsplit(address)
    return parts._replace(path=f"{parts.path.rstrip('/')}/fail").geturl()


def request(address: str, body: bytes | None = None, *, seconds: float = SECONDS) -> None:
    """GET an address, or POST JSON to it; raise DeliveryError unless the answer is 2xx. Nothing is read."""
    bare, secret = _without_user(address)
    headers = {"User-Agent": f"bt-daemon/{program_version()}", **secret}
    if body is not None:
        headers["Content-Type"] = "application/json"
    try:
        asked = urllib.request.Request(bare, body, headers)  # noqa: S310 - http and https only
        with _OPENER.open(asked, timeout=seconds):
            return
    except urllib.error.HTTPError as error:
        error.close()
        lasting = 300 <= error.code < 500 and error.code not in (408, 425, 429)
        raise DeliveryError(f"it answers {error.code}", lasting=lasting) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        why = getattr(reason, "strerror", None) or (str(reason) if isinstance(reason, OSError) else "")
        raise DeliveryError(printable(why or type(reason).__name__)) from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET without its message, and look delivered."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


def _receiver(address: str) -> NoticeReceiver:
    _check("--notify", address)
    if urllib.parse.urlsplit(address).scheme in _WEB:
        return Webhook(address)
    if not installed("apprise"):
        raise not_installed(ModuleNotFoundError(name="apprise"))
    return AppriseReceiver(address)


def _check(option: str, address: str) -> None:
    try:
        parts = urllib.parse.urlsplit(address)
        is_whole = bool(parts.scheme and "://" in address) and (parts.port or 0) >= 0
    except ValueError:
        is_whole = False
    if not is_whole or (parts.scheme in _WEB and not parts.hostname) or not address.isprintable():
        raise UsageError(f"{option}: {_shown(address)} is no address", hint="write https://HOST/PATH")


def _shown(address: str) -> str:
    """Return scheme and host: the rest of an address is often a secret; of other schemes the host too."""
    scheme, mark, rest = address.partition("://")
    if not mark:
        return "what is given"
    host = rest.partition("/")[0].rpartition("@")[2] if scheme in _WEB else "..."
    return printable(f"{scheme}://{host}")


def _without_user(address: str) -> tuple[str, dict[str, str]]:
    """Return an address without user and password, and the header that tells them."""
    parts = urllib.parse.urlsplit(address)
    user, at, place = parts.netloc.rpartition("@")
    if not at:
        return address, {}
    token = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
    return parts._replace(netloc=place).geturl(), {"Authorization": f"Basic {token}"}
