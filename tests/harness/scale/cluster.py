"""A daemon on one host and workers on the others, as processes that can be killed and started again."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from daemon.process import child_environment
from tests.harness.scale.engines import HarnessEngine
from tests.harness.scale.hosts import Hosts, end, killed
from tests.support.daemons import bt_daemon

_TICKS = os.sysconf("SC_CLK_TCK")
_START_SECONDS = 120.0


@dataclass(slots=True, eq=False)
class Node:
    """One worker: a process on a host, and its lines."""

    process: subprocess.Popen[bytes]
    host: int
    log: Path


@dataclass(slots=True)
class Cluster:
    """The processes of one run; all times are monotonic seconds."""

    hosts: Hosts
    engine: HarnessEngine
    folder: Path  # everything of this run: inbox, database, records, logs
    cache: Path  # engines of the head, shared by all runs of the harness
    database: str
    sleep_seconds: float
    nodes: list[Node] = field(default_factory=list)
    head: subprocess.Popen[bytes] | None = None
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _past_cpu: dict[str, float] = field(default_factory=lambda: {"writer": 0.0, "carrier": 0.0})

    @property
    def inbox(self) -> Path:
        """The folder that every host sees."""
        return self.folder / "inbox"

    @property
    def head_log(self) -> Path:
        """The lines of the daemon, of all its lives."""
        return self.folder / "head.log"

    def start_head(self) -> None:
        """Start the daemon; it looks for workers only."""
        options = self.engine.head(self.hosts.address(0), self.folder / "key.pem")
        self.head = self.hosts.start(
            0, "daemon.cli", "watch", self.inbox, "--db", self.database, "--lanes", "none", *options,
            log=self.head_log, environment=self._environment(),
        )  # fmt: skip

    def kill_head(self) -> None:
        """Kill the daemon alone, without warning."""
        assert self.head is not None
        for name, seconds in self._cpu_now().items():
            self._past_cpu[name] += seconds
        killed(self.head)

    def make_key(self) -> None:
        """Make the key by which head and workers know each other."""
        done = bt_daemon(*self.engine.make_key(self.folder / "key.pem"), env=self._environment())
        if done.returncode:
            raise RuntimeError(f"no key could be made: {done.stderr.strip()}")

    def start_node(self, host: int | None = None) -> Node:
        """Start one more worker, on the host with the fewest unless one is named."""
        number = next(self._numbers)
        places = dict.fromkeys(range(1, self.hosts.count), 0)
        for node in self.nodes:
            places[node.host] += 1
        host = host or min(places, key=lambda one: places[one])
        record = self.folder / f"node-{number:03}-host-{host}.record"
        log = record.with_suffix(".log")
        process = self.hosts.start(
            host, self.engine.node_module,
            *self.engine.node(self.hosts.address(0), self.folder / "key.pem"),
            "--sleep", f"{self.sleep_seconds}", "--record", record,
            log=log, environment=self._environment(),
        )  # fmt: skip
        self.nodes.append(Node(process, host, log))
        return self.nodes[-1]

    def kill_node(self, chance: random.Random) -> None:
        """Kill a random worker and start another on its host."""
        victim = chance.choice(self.nodes)
        killed(victim.process)
        self.nodes.remove(victim)
        self.start_node(victim.host)

    def wait_until_joined(self, seconds: float = _START_SECONDS) -> None:
        """Return when every worker has joined; raise RuntimeError with the last lines if one does not."""
        deadline = time.monotonic() + seconds
        while not all(map(self._has_joined, self.nodes)):
            ended = [node for node in self.nodes if node.process.poll() is not None]
            if ended or time.monotonic() > deadline or self.head is None or self.head.poll() is not None:
                raise RuntimeError(f"workers did not join\n{self.last_lines()}")
            time.sleep(0.05)

    def leaving_lines(self, host: int) -> set[str]:
        """Return what the head's log will hold when all workers have left that had joined from a host."""
        there = [node for node in self.nodes if node.host == host and self._has_joined(node)]
        return {self.engine.left.format(node.process.pid) for node in there}

    def _has_joined(self, node: Node) -> bool:
        return self.engine.joined in node.log.read_text()

    def last_lines(self) -> str:
        """Return the ends of the logs."""
        texts = []
        for log in (self.head_log, *sorted(self.folder.glob("node-*.log"))[-3:]):
            lines = log.read_text(errors="replace").splitlines() if log.exists() else []
            texts.append(f"--- {log.name}\n" + "\n".join(lines[-12:]))
        return "\n".join(texts)

    def cpu(self) -> dict[str, float]:
        """Return CPU-seconds of the daemon's own process and of its child that talks to the workers."""
        return {name: self._past_cpu[name] + seconds for name, seconds in self._cpu_now().items()}

    def _cpu_now(self) -> dict[str, float]:
        if self.head is None or self.head.poll() is not None:
            return {"writer": 0.0, "carrier": 0.0}
        carrier = 0.0
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.head.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if any(self.engine.carrier in word for word in child.cmdline()):
                        carrier += process_cpu(child.pid)
        return {"writer": process_cpu(self.head.pid), "carrier": carrier}

    def _environment(self) -> dict[str, str]:
        return {**child_environment(), "BT_CACHE": str(self.cache), "BT_RUNTIME": str(self.folder)}


def process_cpu(pid: int) -> float:
    """Return the CPU-seconds of one process, all its threads, none of its children."""
    try:
        # The name, in brackets, may hold anything; the fields after it start with the state (proc(5), 3).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


@contextmanager
def running(cluster: Cluster, workers: int) -> Iterator[Cluster]:
    """Run a daemon with so many workers until the block ends, then let both end as they should."""
    cluster.inbox.mkdir(parents=True)
    cluster.make_key()
    cluster.start_head()
    for _ in range(workers):
        cluster.start_node()
    try:
        cluster.wait_until_joined()
        yield cluster
    finally:
        processes = [node.process for node in cluster.nodes]
        end([*processes, *([cluster.head] if cluster.head is not None else [])])
