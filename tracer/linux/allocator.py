"""The C library's allocator, told to give memory back: what numpy needs for a moment must not stay for ever.

By default glibc keeps what was freed in one heap a thread, and once a large block was freed it takes others of that
size from the heap too, where small long-lived ones pin them: with the dashboard that was 30 MB. What is free between
those is given back by give_back(), which who runs for long calls now and then: else the heap stays as large as the
busiest moment made it.

numpy keeps freed blocks of its own: up to seven of each size below 1 KiB (numpy/_core/src/multiarray/alloc.c). Batches
come in all sizes, so over hours that looks like a leak of 3.6 MB; fill_numpys_cache() has it at once.
"""

from __future__ import annotations

import os

from tracer.linux.libc import libc

# <malloc.h>
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8

MMAP_FROM = 1 << 20  # bytes: blocks of this size are mapped each for itself, and unmapped when freed
MMAP_SHOWN_FROM = 1 << 18
TRIM_FROM = 8 << 20  # bytes free at the top of the heap that are given back at once
CACHED_BELOW, CACHED_OF_A_SIZE = 1024, 7  # NBUCKETS and NCACHE of numpy

# None where the C library is another
_mallopt, _trim = getattr(libc, "mallopt", None), getattr(libc, "malloc_trim", None)


def give_back_early() -> None:
    """Set it for this process and those it forks, before threads begin. Other C libraries are left as they are."""
    # read when numpy is imported: huge pages for all arrays from 4 MB on would fill tables that are hardly used
    os.environ.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")
    if _mallopt is not None:
        for option, value in ((M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, MMAP_FROM), (M_TRIM_THRESHOLD, TRIM_FROM)):
            _mallopt(option, value)


def give_back_at_once() -> None:
    """Map smaller blocks each for itself, too: what screens sort by would tear the heap."""
    if _mallopt is not None:
        _mallopt(M_MMAP_THRESHOLD, MMAP_SHOWN_FROM)


def give_back() -> None:
    """Every free page of the heap, wherever it is: a third of a millisecond, some more after a busy moment."""
    if _trim is not None:
        _trim(0)


def fill_numpys_cache() -> None:
    """Memory has then the size that it keeps: a few milliseconds, once."""
    import numpy as np  # the root part has none

    for size in range(1, CACHED_BELOW):
        held = [np.empty(size, np.uint8) for _ in range(CACHED_OF_A_SIZE)]
        held.clear()
