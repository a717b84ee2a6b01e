"""A real browser without a window: what a page has become after its scripts ran, and how it looks."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# Nothing but the page is asked of the network.
ALONE = ("--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync")  # fmt: skip

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


def rendered(address: str, *, width: int = 1280, milliseconds: int = 3000) -> tuple[str, str]:
    """Return the document as HTML after its scripts ran, and what the console said."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory() as profile:
        ran = subprocess.run(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", *ALONE,
             f"--user-data-dir={profile}", f"--window-size={width},1000", "--enable-logging=stderr", "--v=0",
             f"--virtual-time-budget={milliseconds}", "--dump-dom", address],
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
    console = "\n".join(line for line in ran.stderr.splitlines() if "CONSOLE" in line)
    return ran.stdout, console


def file_address(path: Path) -> str:
    """Return a file's address, whatever its name."""
    return path.resolve().as_uri()
