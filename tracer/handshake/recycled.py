"""Memory for large arrays that live for a moment: they get the pages of those before them.

A large block has a mapping of its own, so that it is given back when it is freed (linux/allocator.py). Then each 4 KiB
of the next one cost a page fault: with batches of 2 MB that was an eighth of what a handshake cost.
"""

from __future__ import annotations

import sys
import threading

import numpy as np
from numpy.typing import NDArray

SMALL = 64 << 10  # bytes that the heap gives, mostly without a fault


def _references(held: list[NDArray[np.uint8]], at: int) -> int:
    return sys.getrefcount(held[at])


_NOBODYS = [np.empty(1, np.uint8)]
# without the GIL other threads count apart
_COUNTS = getattr(sys, "_is_gil_enabled", lambda: True)()


def _is_free(held: list[NDArray[np.uint8]], at: int) -> bool:
    """Does no array refer to it? Those that are made of it do, as their base.

    What one that nobody has counts is asked each time, before and after: interpreters that compile what runs often may
    count a reference less then.
    """
    before = _references(_NOBODYS, 0)
    found = _references(held, at)
    return found <= min(before, _references(_NOBODYS, 0))


class Recycled:
    """At most `limit` blocks, which stay for ever. Any thread may take one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: list[NDArray[np.uint8]] = []
        self._lock = threading.Lock()

    def take(self, size: int, room: int = 0) -> NDArray[np.uint8]:
        """So many bytes that nothing refers to. They are free again when nothing refers to an array made of them.

        `room`: how large a block is to be, if it is made now, so that the next one may have more.
        """
        if size < SMALL:
            return np.empty(size, np.uint8)
        held = self._held
        with self._lock:
            for at in range(len(held)):
                if held[at].nbytes >= size and _is_free(held, at):
                    return held[at][:size]
            if not _COUNTS or len(held) == self._limit:
                return np.empty(size, np.uint8)
            held.append(np.empty(max(size, room), np.uint8))
            return held[-1][:size]
