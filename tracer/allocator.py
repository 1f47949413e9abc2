"""The C library's allocator, told to give memory back: what numpy needs for a moment must not stay for ever.

By default glibc keeps what was freed in one heap a thread, and once a large block was freed it takes others of that
size from the heap too, where small long-lived ones pin them: with the dashboard that was 30 MB.
"""

from __future__ import annotations

import ctypes

# <malloc.h>
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8

MMAP_FROM = 1 << 20  # bytes: blocks of this size are mapped each for itself, and unmapped when freed
TRIM_FROM = 8 << 20  # bytes free at the top of the heap that are given back


def give_back_early() -> None:
    """Set it for this process and those it forks, before threads begin. Other C libraries are left as they are."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return
    for option, value in ((M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, MMAP_FROM), (M_TRIM_THRESHOLD, TRIM_FROM)):
        mallopt(option, value)
