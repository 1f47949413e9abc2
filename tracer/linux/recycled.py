"""Memory for large arrays that live for a moment: they get the pages of those before them.

A large block has a mapping of its own, so that it is given back when it is freed (allocator.py). Then each 4 KiB of the
next one cost a page fault: with batches of 2 MB that was an eighth of what a handshake cost.
"""

from __future__ import annotations

import sys
import threading

import numpy as np
from numpy.typing import NDArray


def _references(held: list[NDArray[np.uint8]], at: int) -> int:
    return sys.getrefcount(held[at])


# those of an array that has no views: an array made of it refers to it as its base
_ALONE = _references([np.empty(1, np.uint8)], 0)
# without the GIL other threads count apart
_COUNTS = getattr(sys, "_is_gil_enabled", lambda: True)()


class Recycled:
    """At most `limit` blocks, which stay for ever. Any thread may take one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: list[NDArray[np.uint8]] = []
        self._lock = threading.Lock()

    def take(self, size: int) -> NDArray[np.uint8]:
        """So many bytes that nothing refers to. They are free again when nothing refers to an array made of them."""
        held = self._held
        with self._lock:
            for at in range(len(held)):
                if _references(held, at) == _ALONE and held[at].nbytes >= size:
                    return held[at][:size]
            fresh = np.empty(size, np.uint8)
            if _COUNTS and len(held) < self._limit:
                held.append(fresh)
            return fresh[:]
