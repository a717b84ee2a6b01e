"""A node of the harness: joins a head as `bt-daemon worker` does, but with lanes that sleep.

python -m tests.harness.scale.node tls://HOST:8786 --workers-key PEM --sleep 0.02 --record FILE [--lanes N]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from config.errors import BtError
from daemon.clock import SystemClock
from daemon.engines.manifest import PreparedEngine
from daemon.log import set_up_log
from daemon.remote.absence import Absence
from daemon.remote.head_address import head_address
from daemon.remote.node import HeadWeights, Node
from daemon.remote.terms import Computed, Terms
from daemon.remote.workers_key import check_key
from daemon.service.signals import StopSignal, Waker
from daemon.workers.messages import WorkerSetup
from tests.harness.scale.sleeping_lanes import SleepingLanes


def main() -> int:
    """Join, and judge by sleeping until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("head")
    parser.add_argument("--workers-key", default="")
    parser.add_argument("--sleep", type=float, required=True, help="seconds an image")
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--lanes", type=int, default=1)
    options = parser.parse_args()
    lanes, waker = SleepingLanes(options.lanes, options.sleep, options.record), Waker()
    logger = set_up_log(0, "text")
    try:
        key = check_key(options.workers_key)
        head = head_address(options.head, key, joining=True)
        clock = SystemClock()
        absence = Absence(0, clock.monotonic)
        with StopSignal(waker) as stop:
            Node(head, key, lanes, options.lanes, _nothing, stop, waker, clock, logger, absence).run()
    except BtError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _nothing(terms: Terms, _: HeadWeights) -> tuple[Computed, WorkerSetup]:
    """Return what the head wants, with an engine that nobody opens."""
    wanted = terms.computed
    prepared = PreparedEngine(
        weights="",
        weights_sha256=wanted.weights_sha256,
        kind=wanted.engine,
        precision=wanted.precision,
        device=wanted.device,
        folder="",
        why="nothing is computed",
    )
    return wanted, WorkerSetup(prepared, terms.limits, terms.batch, terms.memory_bytes)


if __name__ == "__main__":
    sys.exit(main())
