"""The process that owns a device: it opens the network there once, for all workers.

    python -m daemon.workers.gpu_main DESCRIPTOR

`daemon.workers.gpu_owner` starts it and talks to it through a socket: a setup, then the workers' connections
come in; remarks, and why it ended, go out. It ends when the daemon closes its end or dies.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection

from daemon.frames import send_frame
from daemon.process import die_with_the_parent, leave_stopping_to_the_parent
from daemon.workers.messages import ENDED, REMARK, EngineSetup

_LONGEST = 1000


def main(arguments: Sequence[str]) -> int:
    """Serve until the parent closes its end; return 1 if the device failed."""
    leave_stopping_to_the_parent()
    die_with_the_parent()
    control = Connection(int(arguments[0]))
    try:
        _serve(control)
    except EOFError:  # the parent has ended before it said anything
        return 0
    except Exception as error:  # noqa: BLE001 - whatever it is, the daemon says it in one line
        with contextlib.suppress(OSError):
            _say(control, ENDED, _one_line(error))
        return 1
    return 0


def _serve(control: Connection) -> None:
    from daemon.engines.torch_engine import TorchEngine
    from daemon.workers.gpu_server import EngineServer

    setup: EngineSetup = control.recv()
    engine = TorchEngine(setup.prepared, maps=setup.maps, remark=lambda text: _say(control, REMARK, text))
    engine.warm_up()
    EngineServer(engine, control, setup.batch).serve()


def _say(control: Connection, kind: bytes, text: str) -> None:
    send_frame(control.fileno(), kind + text[:_LONGEST].encode(errors="replace"))


def _one_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
