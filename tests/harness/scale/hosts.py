"""Network namespaces joined by a bridge: each is a host with an address, a link and processes of its own.

The bridge lies in the first namespace, so that nothing of the machine's own network is touched and all is
gone with the namespaces. Needs root, iproute2 and util-linux.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from daemon.process import child_environment
from tests.conftest import REPOSITORY

_PREFIX = "bt-scale-"
_NETWORK = "10.77.0."


def why_impossible() -> str:
    """Return why there can be no namespaces here, '' if there can."""
    for program, package in (("ip", "iproute2"), ("setpriv", "util-linux")):
        if shutil.which(program) is None:
            return f"needs `{program}` ({package}) to make network namespaces"
    if os.geteuid() != 0:
        return "needs root to make network namespaces"
    probe = f"{_PREFIX}{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"cannot make network namespaces: {made.stderr.strip()}"
    _ip("netns", "delete", probe)
    return ""


class Hosts:
    """Some hosts on one network; a context manager. Host 0 holds the bridge: its link cannot be cut."""

    def __init__(self, count: int) -> None:
        """Plan `count` hosts; they exist within the `with` block."""
        self._count = count
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Hosts:
        remove_left_behind()
        try:
            for number in range(self._count):
                _ip("netns", "add", _name(number))
                _ip("-n", _name(number), "link", "set", "lo", "up")
            _ip("-n", _name(0), "link", "add", "bridge0", "type", "bridge")
            _ip("-n", _name(0), "address", "add", f"{self.address(0)}/24", "dev", "bridge0")
            _ip("-n", _name(0), "link", "set", "bridge0", "up")
            for number in range(1, self._count):
                self._plug_in(number)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
        for process in self._processes:
            process.wait()
        self._remove()

    @property
    def count(self) -> int:
        """How many hosts there are."""
        return self._count

    def address(self, number: int) -> str:
        """Return the IPv4 address of a host."""
        return f"{_NETWORK}{number + 1}"

    def start(
        self, number: int, module: str, *arguments: str | Path, log: Path, environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Run a module of ours on a host; its lines are appended to `log`. It ends with this process."""
        # Each of these turns into the next: the process is the module's.
        command = ["ip", "netns", "exec", _name(number), "setpriv", "--pdeathsig", "KILL"]
        command += [sys.executable, "-m", module, *map(str, arguments)]
        with log.open("ab") as stream:
            process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={**child_environment(), **environment},
                start_new_session=True,  # Ctrl-C is for the harness, which ends them
            )
        self._processes.append(process)
        return process

    def cut(self, number: int) -> None:
        """Take a host off the network as a switch further away would: neither end is told."""
        _ip("-n", _name(0), "link", "set", f"port{number}", "nomaster")

    def mend(self, number: int) -> None:
        """Put a host back on the network."""
        _ip("-n", _name(0), "link", "set", f"port{number}", "master", "bridge0")

    def traffic(self) -> int:
        """Return how many bytes have gone over all links so far, both ways, headers included."""
        shown = _ip("-n", _name(0), "-json", "-statistics", "link", "show", "type", "veth")
        counts = [link["stats64"] for link in json.loads(shown)]
        return sum(int(one["rx"]["bytes"]) + int(one["tx"]["bytes"]) for one in counts)

    def _plug_in(self, number: int) -> None:
        port, host = f"port{number}", _name(number)
        _ip("-n", _name(0), "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host)
        _ip("-n", _name(0), "link", "set", port, "up", "master", "bridge0")
        _ip("-n", host, "address", "add", f"{self.address(number)}/24", "dev", "eth0")
        _ip("-n", host, "link", "set", "eth0", "up")

    def _remove(self) -> None:
        for number in range(self._count):
            subprocess.run(["ip", "netns", "delete", _name(number)], capture_output=True, check=False)


def remove_left_behind() -> None:
    """Remove the namespaces of a harness that was killed."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False).stdout
    for line in listed.splitlines():
        name = line.split(" ")[0]
        owner = name.removeprefix(_PREFIX).split("-")[0]
        if name.startswith(_PREFIX) and owner.isdigit() and not Path(f"/proc/{owner}").exists():
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _name(number: int) -> str:
    return f"{_PREFIX}{os.getpid()}-{number}"


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def killed(process: subprocess.Popen[bytes], patience_seconds: float = 10.0) -> None:
    """Kill a process and everything it started, without warning."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.wait(patience_seconds)


def end(processes: Sequence[subprocess.Popen[bytes]], patience_seconds: float = 30.0) -> list[int]:
    """Ask processes to end (SIGTERM) and return their exit codes; one that does not is killed."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    codes = []
    for process in processes:
        try:
            codes.append(process.wait(patience_seconds))
        except subprocess.TimeoutExpired:
            killed(process)
            codes.append(process.returncode)
    return codes
