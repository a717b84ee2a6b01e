"""All that `bt-daemon doctor` looks at, in the order in which it is told.

Each check looks at the real thing (a database is made and put into WAL mode, the engine is
imported), and says what to do when it is not as it should be.
"""

from __future__ import annotations

from collections.abc import Iterator

from config.errors import BtError
from config.text import printable
from daemon.doctor import engine_check as model
from daemon.doctor import machine, places
from daemon.doctor.finding import Check, Finding, Level, Surroundings

CHECKS: tuple[tuple[str, Check], ...] = (
    ("sqlite", places.sqlite),
    ("database place", places.database_place),
    ("database", places.database),
    ("disk", places.disk),
    ("memory", machine.memory),
    ("inbox", places.inboxes),
    ("inotify", machine.inotify),
    ("decoders", model.decoders),
    ("engine", model.engine),
    ("weights", model.weights),
    ("cache", places.cache),
    ("clock", machine.clock),
)


def examine(around: Surroundings) -> Iterator[Finding]:
    """Run every check; one that fails in an unforeseen way is itself a finding."""
    for name, check in CHECKS:
        try:
            for found in check(around):
                yield Finding(name, *found)
        except BtError as error:
            yield Finding(name, Level.FAIL, printable(error.what), printable(error.hint))
        except Exception as error:  # noqa: BLE001 - a doctor reports, whatever it is
            yield Finding(
                name, Level.FAIL, printable(f"{type(error).__name__}: {error}"), "please report this"
            )
