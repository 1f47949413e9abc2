"""Make the C library's allocator return memory, so that what numpy needs for a moment does not stay for ever.

By default glibc has one heap per thread and keeps freed memory there. Once a large block was freed, it takes others of
that size from the heap too, where small long-lived blocks pin them: with the dashboard that cost 30 MB. give_back()
returns what is free between those. Processes that run for long call it now and then; otherwise the heap stays as large
as the busiest moment made it.

numpy keeps freed blocks itself: up to seven of each size below 1 KiB (numpy/_core/src/multiarray/alloc.c). Batches have
all sizes, so over hours that looks like a leak of 3.6 MB. fill_numpys_cache() fills it at once.
"""

from __future__ import annotations

import os

from tracer.linux.libc import libc

# <malloc.h>
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8

MMAP_FROM = 2 << 20  # bytes: larger blocks get a mapping each, which goes when they are freed
MMAP_SHOWN_FROM = 1 << 18
TRIM_FROM = 8 << 20  # bytes: if so much is free at the top of the heap, it is returned at once
CACHED_BELOW, CACHED_OF_A_SIZE = 1024, 7  # NBUCKETS and NCACHE of numpy

# None in other C libraries
_mallopt, _trim = getattr(libc, "mallopt", None), getattr(libc, "malloc_trim", None)


def give_back_early() -> None:
    """Configure this process and those it forks, before threads start. Other C libraries stay as they are."""
    # numpy reads this on import: huge pages for arrays of 4 MB and more would fill tables that are hardly used
    os.environ.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")
    if _mallopt is not None:
        for option, value in ((M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, MMAP_FROM), (M_TRIM_THRESHOLD, TRIM_FROM)):
            _mallopt(option, value)


def give_back_at_once() -> None:
    """Give smaller blocks a mapping each, too: the arrays that screens sort by would fragment the heap."""
    if _mallopt is not None:
        _mallopt(M_MMAP_THRESHOLD, MMAP_SHOWN_FROM)


def give_back() -> None:
    """Return every free page of the heap. Takes a third of a millisecond, more after a busy moment."""
    if _trim is not None:
        _trim(0)


def fill_numpys_cache() -> None:
    """Give memory the size that it will have in the end. Takes a few milliseconds, once."""
    import numpy as np  # the root part has none

    for size in range(1, CACHED_BELOW):
        held = [np.empty(size, np.uint8) for _ in range(CACHED_OF_A_SIZE)]
        held.clear()
