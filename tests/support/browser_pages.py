"""Chromium without a window, driven over its debugging pipe: pages clicked, typed into and audited."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.browser import CHROMIUM

_SECONDS = 30.0
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)  # fmt: skip


class Page:
    """One tab."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._number = 0
        self._rest = b""
        self._session = ""
        self.console: list[str] = []  # what pages complained of
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def look(
        self, *, width: int = 1280, height: int = 1000, dark: bool = False, print_: bool = False
    ) -> None:
        """Set the size of the window, the scheme of colours and the medium."""
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
            mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", media="print" if print_ else "screen", features=[scheme])

    def open(self, address: str) -> None:
        """Load a page and wait until its scripts and pictures are there."""
        self._call("Page.navigate", url=address)
        self.loaded()

    def loaded(self) -> None:
        """Wait for the end of a load that has begun."""
        self.wait("document.readyState === 'complete'")

    def ask(self, script: str) -> Any:
        """Return what a script's expression is worth; promises are waited for."""
        told = self._call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in told:
            raise AssertionError(told["exceptionDetails"])
        return told["result"].get("value")

    def wait(self, script: str, seconds: float = _SECONDS) -> None:
        """Wait until a script's expression is true."""
        end = time.monotonic() + seconds
        while True:
            try:
                if self.ask(script):
                    return
            except (AssertionError, RuntimeError):  # the page before has just gone
                pass
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.02)

    def type(self, text: str) -> None:
        """Type into what has the focus, key by key."""
        for char in text:
            self._call("Input.dispatchKeyEvent", type="keyDown", text=char, key=char)
            self._call("Input.dispatchKeyEvent", type="keyUp", key=char)

    def press(self, key: str, code: int = 0) -> None:
        """Press a key that is no character, or one that is a command."""
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        known = {
            "key": key,
            "windowsVirtualKeyCode": code or {"Enter": 13, "Tab": 9, "Escape": 27}.get(key, 0),
        }
        self._call("Input.dispatchKeyEvent", type="keyDown", **known, **text)
        self._call("Input.dispatchKeyEvent", type="keyUp", **known)

    def click(self, selector: str) -> None:
        """Click the middle of an element."""
        self.ask(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")
        box = self.ask(
            f"(() => {{const r = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2]})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Write what is seen, or the whole page, as PNG."""
        told = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(told["data"]))

    def audit(self) -> list[dict[str, Any]]:
        """Return what axe-core finds serious or critical: rule, and the elements."""
        self.ask(_axe_source() + "; true")
        found = self.ask(
            "axe.run(document, {resultTypes: ['violations']}).then(r => JSON.stringify(r.violations.filter("
            "v => v.impact === 'serious' || v.impact === 'critical').map(v => ({id: v.id, nodes: v.nodes.map("
            "n => n.html.slice(0, 160) + ' | ' + n.failureSummary.slice(0, 300))}))))"
        )
        violations: list[dict[str, Any]] = json.loads(found)
        return violations

    def _call(self, method: str, **values: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": values}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            told = self._read()
            if told.get("id") == self._number:
                if "error" in told:
                    raise RuntimeError(told["error"])
                result: dict[str, Any] = told["result"]
                return result
            self._note(told)

    def _note(self, told: dict[str, Any]) -> None:
        if told.get("method") == "Runtime.exceptionThrown":
            self.console.append(json.dumps(told["params"]["exceptionDetails"])[:500])
        if told.get("method") == "Log.entryAdded" and told["params"]["entry"]["level"] == "error":
            self.console.append(
                told["params"]["entry"]["text"] + " " + told["params"]["entry"].get("url", "")
            )

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            chunk = os.read(self._from, 1 << 20)
            assert chunk, "the browser has ended"
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\0")
        told: dict[str, Any] = json.loads(line)
        return told


@contextmanager
def chromium_page() -> Iterator[Page]:
    """Start a browser with a profile of its own, and end it."""
    assert CHROMIUM is not None
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    # The browser reads descriptor 3 and writes 4, whatever numbers the pipes have here.
    script = f'exec "$0" "$@" 3<&{to_read} 4>&{from_write}'
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            ["bash", "-c", script, CHROMIUM, *_FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(to_read, from_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_read)
        os.close(from_write)
        try:
            yield Page(to_write, from_read)
        finally:
            process.terminate()
            process.wait(20)
            os.close(to_write)
            os.close(from_read)


def _axe_source() -> str:
    found = importlib.util.find_spec("axe_core_python")
    assert found is not None
    assert found.origin is not None
    return (Path(found.origin).parent / "axe.min.js").read_text()
