"""Moves files whose row is committed; what a crash left undone is moved at the next start."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from config.text import printable_name
from daemon.after import MoveError, move_away
from daemon.log import CauseLog

if TYPE_CHECKING:
    from storage.ledger import Ledger, MoveDue

_AT_A_TIME = 200


class Mover:
    """Carries out the moves that the ledger says are due."""

    def __init__(
        self,
        ledger: Ledger,
        roots: Mapping[int, bytes],
        done_dir: str,
        quarantine_dir: str,
        *,
        logger: logging.Logger,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._roots = roots
        self._targets = {
            False: os.fsencode(os.path.abspath(done_dir)) if done_dir else b"",
            True: os.fsencode(os.path.abspath(quarantine_dir)) if quarantine_dir else b"",
        }
        self._log = CauseLog(logger, monotonic)

    def move_due(self) -> None:
        """Move what is due, and say in the ledger where it went."""
        while len(batch := self._ledger.moves_due(_AT_A_TIME)) and self._move(batch) == _AT_A_TIME:
            pass

    def _move(self, batch: Sequence[MoveDue]) -> int:
        """Move a batch and return how many of it are settled; the others are tried again later."""
        moved: list[tuple[int, bytes | None]] = []
        for due in batch:
            root, target = self._roots.get(due.version.inbox_id), self._targets[due.quarantined]
            if root is None or not target:
                continue
            try:
                moved.append((due.file_id, move_away(root, due.version, target)))
            except MoveError as error:
                self._log(
                    f"move {error.reason}",
                    f"cannot move {printable_name(due.version.path)} to {printable_name(target)} "
                    f"({error.reason}); it stays in the inbox, its result is stored",
                )
        self._ledger.mark_moved(moved)
        return len(moved)
