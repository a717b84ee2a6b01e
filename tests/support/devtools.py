"""Drive a real browser without a window over its DevTools pipe: keys, mouse, fingers, and what a page became.

Chromium's `--remote-debugging-pipe` takes JSON, each ended by a zero byte, on descriptor 3 and answers on 4.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support.browser import ALONE, CHROMIUM

_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", *ALONE, "--hide-scrollbars",
    "--remote-debugging-pipe",
)  # fmt: skip
_PATIENCE = 60.0  # seconds for one answer, or for a condition; machines of tests are busy
_CODES = {"Enter": 13, "Tab": 9, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39,
          "ArrowDown": 40, "PageUp": 33, "PageDown": 34}  # fmt: skip


class Tab:
    """One page of a browser."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands = commands
        self._answers = answers
        self._rest = b""
        self._number = 0
        self.console: list[str] = []  # errors, and what the content policy refused
        target = self._call("Target.createTarget", {"url": "about:blank"}, session="")["targetId"]
        attached = self._call("Target.attachToTarget", {"targetId": target, "flatten": True}, session="")
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def open(self, address: str, *, query: str = "") -> None:
        """Go to an address, and wait until it is loaded with scripts; `query` is what it will not keep."""
        self._call("Page.navigate", {"url": address + query})
        gone = f"!location.href.endsWith({json.dumps(query)}) && " if query else ""
        arrived = f"location.href.startsWith({json.dumps(address)})"
        self.wait(f"{gone}{arrived} && document.readyState === 'complete'")

    def loaded(self) -> None:
        """Wait for the end of a load that has begun."""
        self.wait("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """Return what an expression is, awaited."""
        told = self._call(
            "Runtime.evaluate", {"expression": script, "returnByValue": True, "awaitPromise": True}
        )
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def wait(self, script: str) -> Any:
        """Wait until an expression is true, and return it."""
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            with contextlib.suppress(AssertionError):  # the page is being replaced
                if value := self.run(script):
                    return value
            time.sleep(0.03)
        raise AssertionError(f"never became true at {self.run('location.href')}: {script} {self.console}")

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key and let it go."""
        text = "\r" if key == "Enter" else key if len(key) == 1 else ""
        code = _CODES.get(key, ord(key.upper()) if len(key) == 1 else 0)
        event = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        down = {"type": "keyDown" if text else "rawKeyDown", "text": text}
        self._call("Input.dispatchKeyEvent", {**event, **down})
        self._call("Input.dispatchKeyEvent", {**event, "type": "keyUp"})

    def type(self, text: str) -> None:
        """Press one key after the other."""
        for key in text:
            self.press(key)

    def click_on(self, selector: str) -> None:
        """Click the middle of an element."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{found}.scrollIntoView({{block: 'center'}})")
        x, y = self.run(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({found}.getBoundingClientRect())")
        self.click(x, y)

    def drag(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        *,
        button: str = "left",
        shift: bool = False,
    ) -> None:
        """Drag the mouse from one place of the window to another in five steps."""
        more: dict[str, Any] = {"button": button, "modifiers": 8 if shift else 0, "clickCount": 1}
        self._mouse("mousePressed", *start, **more)
        for step in range(1, 6):
            place = (one + (other - one) * step / 5 for one, other in zip(start, end, strict=True))
            self._mouse("mouseMoved", *place, **more, buttons={"left": 1, "right": 2, "middle": 4}[button])
        self._mouse("mouseReleased", *end, **more)

    def move(self, x: float, y: float) -> None:
        """Move the mouse to a place of the window."""
        self._mouse("mouseMoved", x, y)

    def click(self, x: float, y: float, *, count: int = 1) -> None:
        """Click at a place of the window."""
        for number in range(1, count + 1):
            self._mouse("mousePressed", x, y, button="left", clickCount=number)
            self._mouse("mouseReleased", x, y, button="left", clickCount=number)

    def wheel(self, x: float, y: float, turned: float, *, control: bool = False) -> None:
        """Turn the wheel by some pixels; towards the person is positive."""
        self._mouse("mouseWheel", x, y, deltaX=0, deltaY=turned, modifiers=2 if control else 0)

    def fingers(self, *steps: Sequence[tuple[float, float]]) -> None:
        """Put fingers on the screen as in the first step, move them to the others, and lift them."""
        for number, places in enumerate(steps):
            points = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(places)]
            kind = "touchMove" if number else "touchStart"
            self._call("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        self._call("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    def device(
        self,
        width: int = 1280,
        height: int = 1000,
        *,
        dark: bool = False,
        touch: bool = False,
        paper: bool = False,
    ) -> None:
        """Become a window of that size in CSS pixels, light or dark, with or without fingers, or paper."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        self._call("Emulation.setDeviceMetricsOverride", size)
        self._call("Emulation.setTouchEmulationEnabled", {"enabled": touch, "maxTouchPoints": 2})
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", {"media": "print" if paper else "", "features": [scheme]})

    def without_scripts(self) -> None:
        """Load the next pages as a browser that runs no scripts."""
        self._call("Emulation.setScriptExecutionDisabled", {"value": True})

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Write what is seen as PNG, by default the whole page."""
        taken = self._call("Page.captureScreenshot", {"captureBeyondViewport": whole})
        path.write_bytes(base64.b64decode(taken["data"]))

    def audit(self) -> list[dict[str, Any]]:
        """Return what axe-core finds serious or critical: rule, and the elements."""
        self.run(_axe_source() + "; true")
        found = self.run(
            "axe.run(document, {resultTypes: ['violations']}).then(r => JSON.stringify(r.violations.filter("
            "v => v.impact === 'serious' || v.impact === 'critical').map(v => ({id: v.id, nodes: v.nodes.map("
            "n => n.html.slice(0, 160) + ' | ' + n.failureSummary.slice(0, 300))}))))"
        )
        violations: list[dict[str, Any]] = json.loads(found)
        return violations

    def pdf(self) -> bytes:
        """Return the page as it is printed."""
        return base64.b64decode(self._call("Page.printToPDF", {"printBackground": False})["data"])

    def _mouse(self, kind: str, x: float, y: float, **more: object) -> None:
        self._call("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, **more})

    def _call(self, method: str, params: object = None, session: str | None = None) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params or {}}
        session = self._session if session is None else session
        if session:
            message["sessionId"] = session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + _PATIENCE
        while True:
            told = self._next(until)
            if told.get("id") == message["id"]:
                assert "error" not in told, f"{method}: {told['error']}"
                return told["result"]
            self._note(told)

    def _note(self, told: dict[str, Any]) -> None:
        params = told.get("params", {})
        if told.get("method") == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.console.append(str(details.get("exception", details).get("description", details)))
        elif told.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.console.append(params["entry"]["text"])

    def _next(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser does not answer"
            got = os.read(self._answers, 1 << 20)
            assert got, "the browser is gone"
            self._rest += got
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


def _axe_source() -> str:
    found = importlib.util.find_spec("axe_core_python")
    assert found is not None
    assert found.origin is not None
    return (Path(found.origin).parent / "axe.min.js").read_text()


@contextlib.contextmanager
def browser() -> Iterator[Tab]:
    """Start a browser with one page; all its processes end with it."""
    assert CHROMIUM is not None
    commands, ours = os.pipe()
    answers, theirs = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        script = f'exec "$@" 3<&{commands} 4>&{theirs}'
        process = subprocess.Popen(
            ["bash", "-c", script, "bash", CHROMIUM, *_OPTIONS, f"--user-data-dir={profile}"],
            pass_fds=(commands, theirs), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            process_group=0,
        )  # fmt: skip
        os.close(commands)
        os.close(theirs)
        try:
            yield Tab(ours, answers)
        finally:
            os.close(ours)
            os.close(answers)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
