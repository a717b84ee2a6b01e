"""Keep the file that was looked at last: the next slice of a volume need not inflate it again."""

from __future__ import annotations

from daemon.store.source_reader import is_source_unchanged, read_judged_source
from trainer.images.decode import FileContent, Limits, Stack, open_stack
from trainer.images.read import JudgedFile


class KeptStack:
    """The slices of one judged file at a time."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._kept: tuple[JudgedFile, FileContent, Stack] | None = None

    def of(self, file: JudgedFile) -> Stack:
        """Return a file's slices; raise PictureError, also if it is not what was judged any more."""
        if self._kept is not None and self._kept[0] == file and is_source_unchanged(file, self._kept[1]):
            return self._kept[2]
        self.forget()  # first, so that never two volumes are in memory
        content = read_judged_source(file, self._limits)
        stack = open_stack(content.data, self._limits)
        self._kept = (file, content, stack)
        return stack

    def forget(self) -> None:
        """Let go of it."""
        self._kept = None
