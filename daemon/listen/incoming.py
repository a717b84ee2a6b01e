"""Receive the data set of one C-STORE request onto the disk, fragment by fragment, in bounded memory."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from daemon.listen.file_meta import HEAD_BYTES, Announced, check_data_set, file_head
from daemon.listen.intake import Intake, PartFile
from daemon.listen.refusals import CANNOT_UNDERSTAND, StoreRefusedError, refusal_of


class IncomingObject(io.BytesIO):
    """What pynetdicom writes fragments to instead of to memory; once it is refused, the rest goes nowhere.

    The refusal waits for the end of the request, where the standard has a place for it.
    """

    def __init__(self, intake: Intake, announced: Callable[[], Announced]) -> None:
        """`announced` is asked at the first fragment."""
        super().__init__()
        self._intake = intake
        self._ask = announced
        self._announced: Announced | None = None
        self._part: PartFile | None = None
        self._head = bytearray()
        self._refused: StoreRefusedError | None = None
        self.size = 0  # bytes of the data set

    def write(self, data: Any) -> int:
        """Take a fragment; never raises."""
        self.size += len(data)
        if self._refused is None:
            try:
                self._take(data)
            except (StoreRefusedError, OSError) as error:
                self._refuse(error)
        return len(data)

    def place(self) -> bool:
        """Return when the object is on the disk under its own name; False if it was there already.

        Raises StoreRefusedError, and then leaves nothing behind.
        """
        try:
            if self._refused is not None:
                raise self._refused
            if self._part is None or self._announced is None:
                raise StoreRefusedError(CANNOT_UNDERSTAND, "the request has no data set")
            check_data_set(bytes(self._head), self._announced)
            return self._part.place()
        except (StoreRefusedError, OSError) as error:
            raise self._refuse(error) from None

    def discard(self) -> None:
        """Leave nothing behind, unless it has been placed."""
        if self._part is not None:
            self._part.discard()

    def _take(self, data: bytes) -> None:
        if self._part is None:
            self._announced = self._ask()
            head = file_head(self._announced)
            self._part = self._intake.begin()
            self._part.write(head)
        self._part.write(data)
        self._head += data[: HEAD_BYTES - len(self._head)]

    def _refuse(self, error: StoreRefusedError | OSError) -> StoreRefusedError:
        self.discard()
        self._refused = error if isinstance(error, StoreRefusedError) else refusal_of(error)
        return self._refused
