"""Guard of the web page: tokens and hosts that may ask, and headers that bind browsers.

A page on this machine can be reached by every web site that the user has open: by its address
(cross-site requests) or by a name that a stranger lets point here (DNS rebinding). So the Host header
must be one of ours, and no answer may be framed or read by another site. Nothing but reading exists, unless
the rules let people write: then at a few addresses, with a token, and from pages of this server only.
"""

from __future__ import annotations

import hmac
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "bt_token"
# Asked without a token and by any name: orchestrators probe by address and know no secret, and the answers
# name nothing. Metrics are not among them: how many images of what class there are is nobody else's business.
OPEN_PATHS = frozenset({"/healthz", "/readyz"})


@dataclass(frozen=True, slots=True)
class Door:
    """An address that can be written to."""

    content_type: str  # one that no HTML form of another site can send
    most_bytes: int | None  # of a body; None: the page behind the door counts itself


# A note is up to 64 K characters, of which JSON makes up to twelve each.
_JSON = Door("application/json", 1 << 20)
WRITING_PATHS: Mapping[str, Door] = {
    "/api/review": _JSON,
    "/api/review/undo": _JSON,
    "/api/upload": Door("application/octet-stream", None),
}
# A shorter token can be guessed, a longer one nobody types.
SHORTEST_TOKEN = 16
_MOST_WRONG = 10
_LOCKED_SECONDS = 60.0
_MOST_ADDRESSES = 10_000
_HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Rules:
    """Which requests are answered."""

    hosts: frozenset[str]  # names and addresses without port that may stand in the Host header
    token: str | None  # None: none is needed
    writing: bool = False  # whether WRITING_PATHS are there; they need a token


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class WrongTokens:
    """Who offered wrong tokens lately: too many lock an address out for a minute, in bounded memory."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._times: OrderedDict[str, tuple[int, float]] = OrderedDict()  # address -> how many, since when

    def locked(self, address: str) -> bool:
        """Whether an address has to wait; the minute counts from its first wrong token."""
        number, since = self._times.get(address, (0, 0.0))
        if self._monotonic() - since >= _LOCKED_SECONDS:
            self._times.pop(address, None)
            return False
        return number >= _MOST_WRONG

    def count(self, address: str) -> None:
        """Take note of a wrong token."""
        number, since = self._times.get(address, (0, self._monotonic()))
        self._times[address] = (number + 1, since)
        while len(self._times) > _MOST_ADDRESSES:
            self._times.popitem(last=False)


class Guard:
    """ASGI middleware: refuses strangers, and sets the headers of every answer."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules
        self._wrong = WrongTokens()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        answer = self._refusal(scope)
        await (answer or self._app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        is_open = scope["path"] in OPEN_PATHS
        if not is_open and _host(headers.get("host", "")) not in self._rules.hosts:
            return PlainTextResponse("this server does not answer to that name\n", 421)
        if scope["method"] not in {"GET", "HEAD"}:
            return self._refuse_writing(scope, headers)
        if is_open or self._rules.token is None:
            return None
        return self._ask_for_token(scope, headers, self._rules.token)

    def _refuse_writing(self, scope: Scope, headers: Headers) -> Response | None:
        """Let a request in that may write; all that it needs is looked at before its body is."""
        door = WRITING_PATHS.get(scope["path"])
        token = self._rules.token
        if scope["method"] != "POST" or door is None or not self._rules.writing or token is None:
            allowed = "POST" if door is not None and self._rules.writing else "GET, HEAD"
            return PlainTextResponse("there is nothing here but reading\n", 405, {"allow": allowed})
        if (refusal := self._check_token(scope, headers, token)) is not None:
            return refusal
        if not _is_own_page(headers, with_token=_same(_bearer(headers), token)):
            return PlainTextResponse("answers are taken from pages of this server only\n", 403)
        return _refuse_body(door, headers)

    def _ask_for_token(self, scope: Scope, headers: Headers, token: str) -> Response | None:
        if (locked := self._locked(scope)) is not None:
            return locked
        given = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        offered = dict(given).get("token")
        if offered is not None and _same(offered, token):
            # Out of the address bar, the history and the log of a proxy at once.
            rest = urlencode([pair for pair in given if pair[0] != "token"])
            answer = RedirectResponse(_own_path(scope["path"]) + (f"?{rest}" if rest else ""), 303)
            answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", max_age=7 * 86_400)
            return answer
        return self._check_token(scope, headers, token, offered or "")

    def _check_token(self, scope: Scope, headers: Headers, token: str, offered: str = "") -> Response | None:
        """Let in whoever has the token in a header or a cookie."""
        if (locked := self._locked(scope)) is not None:
            return locked
        if _same(_bearer(headers), token) or _same(_cookie(headers), token):
            return None
        if offered or _bearer(headers) or _cookie(headers):
            self._wrong.count(_client(scope))
        return PlainTextResponse("a token is needed: open the address that bt-daemon web printed\n", 401)

    def _locked(self, scope: Scope) -> Response | None:
        if not self._wrong.locked(_client(scope)):
            return None
        wait = {"retry-after": str(int(_LOCKED_SECONDS))}
        return PlainTextResponse("too many wrong tokens: wait a minute\n", 429, wait)


def _host(header: str) -> str:
    """Return a Host header's name without port, lower case; IPv6 addresses without brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()


def _refuse_body(door: Door, headers: Headers) -> Response | None:
    """Refuse a body by what its headers say of it."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != door.content_type:
        return PlainTextResponse(f"the body must be {door.content_type}\n", 415)
    if door.most_bytes is None:
        return None
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdecimal() and len(length) < 19):
        return PlainTextResponse("the length of the body must be told\n", 411)
    if int(length) > door.most_bytes:
        return PlainTextResponse(f"the body must have at most {door.most_bytes} bytes\n", 413)
    return None


def _client(scope: Scope) -> str:
    return str((scope.get("client") or ("",))[0])


def _bearer(headers: Headers) -> str:
    return headers.get("authorization", "").removeprefix("Bearer ")


def _is_own_page(headers: Headers, *, with_token: bool) -> bool:
    """Whether a page of this server asks; a program, which tells no origin, must have the token in a header.

    The host that was asked is one of ours already. Its scheme is not compared: a proxy may speak TLS for us.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site != "same-origin":
        return False
    if origin is None:
        return with_token
    scheme, _, place = origin.partition("://")
    return scheme in {"http", "https"} and place.lower() == headers.get("host", "").lower()


def _own_path(path: str) -> str:
    """Return a path as an address of this server: two slashes, or a backslash, would begin another host."""
    return "/" + quote(path.lstrip("/\\"))


def _same(offered: str, token: str) -> bool:
    """Compare in a time that tells nothing about the token."""
    return hmac.compare_digest(offered.encode("utf-8", "replace"), token.encode())


def _cookie(headers: Headers) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value
