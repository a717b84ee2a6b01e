"""The database on a server: whether it is reached, takes rows, and keeps what was committed."""

from __future__ import annotations

from collections.abc import Iterator

from config.database_url import has_password
from config.text import printable
from daemon.doctor.finding import Found, Level
from daemon.output.cells import size_text


def server_database(address: str) -> Iterator[Found]:
    """Look at the database at an address; raises BtError, which is a finding, if it is not reached."""
    from storage.lock import lock_holder
    from storage.maintenance.server_facts import server_facts
    from storage.schema import REVISION

    found = server_facts(address)
    told = f"PostgreSQL {printable(found.server_version)} answers, {size_text(found.size_bytes)}"
    yield Level.OK, f"{told} at {printable(found.place)}", ""
    if found.revision is None:
        yield Level.OK, "it has no tables yet; the first watch makes them", ""
    elif found.revision != REVISION:
        fact = f"it has schema {printable(found.revision)}, this version needs {REVISION}"
        advice = "bt-daemon db migrate" if found.revision < REVISION else "upgrade bt-daemon"
        yield Level.WARN if found.revision < REVISION else Level.FAIL, fact, advice
    if found.not_durable:
        yield (
            Level.WARN,
            f"{', '.join(found.not_durable)} is off: a crash may lose results that were reported",
            "switch it on in postgresql.conf",
        )
    if has_password(address):
        yield Level.WARN, "its address holds the password", "leave it to ~/.pgpass or PGPASSFILE"
    holder = lock_holder(address)
    if holder.pid is not None:
        yield Level.OK, f"a daemon (pid {holder.pid or '?'}) writes to it", ""
