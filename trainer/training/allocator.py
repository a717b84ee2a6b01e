"""Stop glibc from returning freed memory during training (mallopt).

Every step allocates and frees the same hundreds of megabytes. glibc returns large pieces to the kernel at
once and gets them back as pages to be cleared: a step of lite0_six took 17.7 ms an image, and 12.6 without.
"""

from __future__ import annotations

import ctypes
import functools

# mallopt(3)
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_NEVER = 2**31 - 1
_AT_A_TIME = 64 << 20  # bytes that the heap grows by


@functools.cache
def keep_freed_memory() -> bool:
    """Let this process keep what it frees for its next allocations; return False where that is unknown.

    It holds as much memory as it once needed, until it ends.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False  # another C library
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _AT_A_TIME))
    return [mallopt(what, value) for what, value in settings] == [1, 1, 1]
