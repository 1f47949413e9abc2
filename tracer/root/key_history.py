"""Fast Open keys of one place, the namespace or a listener, and those that it had a while ago.

They never leave this process.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

GENERATIONS = 8  # sets of keys to remember, for handshakes that settle later

Keys = tuple[bytes, ...]  # the key, and perhaps a backup key


@dataclass(slots=True)
class _Generation:
    """Keys, and when they were first and last read (CLOCK_MONOTONIC, ns)."""

    keys: Keys = field(repr=False)
    first_ns: int
    last_ns: int


@dataclass(slots=True)
class KeyHistory:
    """What was read of one place's keys, in order."""

    _generations: deque[_Generation] = field(default_factory=lambda: deque(maxlen=GENERATIONS))

    @property
    def last_ns(self) -> int | None:
        """When the keys were last read; None if never."""
        return self._generations[-1].last_ns if self._generations else None

    def add(self, keys: Keys, now_ns: int) -> bool:
        """Add what was read; True if it is other than before."""
        latest = self._generations[-1] if self._generations else None
        if latest is not None and keys == latest.keys:
            latest.last_ns = now_ns
            return False
        self._generations.append(_Generation(keys, now_ns, now_ns))
        return True

    def at(self, syn_ns: int) -> list[Keys]:
        """The keys that may have been in force at that time, in order."""
        return [keys for keys, begin, end in self._spans() if begin <= syn_ns < end]

    def before(self, syn_ns: int) -> Iterator[bytes]:
        """The keys of earlier times."""
        return (key for keys, _, end in self._spans() if end <= syn_ns for key in keys)

    def had_none(self, until_ns: int) -> bool:
        """Whether there were no keys at some time before that."""
        return any(not keys and begin < until_ns for keys, begin, _ in self._spans())

    def all(self) -> Iterator[bytes]:
        """The keys of all times."""
        return (key for one in self._generations for key in one.keys)

    @property
    def is_whole(self) -> bool:
        """Whether there were keys at all times: else some may have come and gone between two readings."""
        return bool(self._generations) and all(one.keys for one in self._generations)

    def _spans(self) -> Iterator[tuple[Keys, float, float]]:
        """Each generation from a moment after the last reading of its predecessor to a moment before its successor's
        first."""
        begins = [0, *(one.last_ns for one in self._generations)]
        ends = [*(one.first_ns for one in self._generations), math.inf][1:]
        for one, begin, end in zip(self._generations, begins, ends, strict=False):
            yield one.keys, begin, end
