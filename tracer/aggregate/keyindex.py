"""Finds the slots of keys, which are some 64 bit words, a batch at a time and without a step per row.

A key is found by a hash under a secret of the process, then compared word by word: two keys never share a slot. When
full it forgets the quarter of the keys that has not been seen for longest.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import U64, Events

Indexes = NDArray[np.intp]

ABSENT = -1


class KeyIndex:
    """At most `limit` keys. `keys[slot]` is the key of a slot that is taken; free slots are given out lowest first.

    `forget` gets the slots whose keys are forgotten.
    """

    def __init__(self, words: int, limit: int, forget: Callable[[Indexes], None]) -> None:
        self._limit = limit
        self._forget = forget
        self._used = np.zeros(limit, np.int64)  # by _clock, slot by slot
        self._clock = 0
        self.keys: U64 = np.zeros((limit, words), np.uint64)
        self._secrets = [np.uint64(secrets.randbits(64) | 1) for _ in range(words)]
        self._hashes: U64 = np.zeros(limit, np.uint64)  # by slot
        self._taken = np.zeros(limit, np.bool_)
        self._sorted: U64 = np.zeros(0, np.uint64)  # hashes of the slots in _order
        self._order: Indexes = np.zeros(0, np.intp)
        # keys that share their hash with another key, which almost never happens
        self._shadowed: dict[bytes, int] = {}

    def __len__(self) -> int:
        return int(np.count_nonzero(self._taken))

    def hash(self, keys: U64) -> U64:
        """A number for each of [n, words] keys."""
        found = np.zeros(len(keys), np.uint64)
        for column, secret in enumerate(self._secrets):
            found ^= keys[:, column]
            found *= secret
            found ^= found >> np.uint64(32)
        return found

    def live(self) -> Indexes:
        """The slots that are taken."""
        return np.flatnonzero(self._taken)

    def find(self, keys: U64) -> Indexes:
        """The slot of each of [n, words] keys, ABSENT where it has none."""
        slots = self._look(keys, self.hash(keys))
        self._used[slots[slots != ABSENT]] = self._clock
        return slots

    def place(self, keys: U64, most: int | None = None) -> Indexes:
        """The slot of each key; new keys get one, of too many only `most` (in their order, the others are ABSENT).

        None of these keys is forgotten. At most three quarters of `limit` can be placed at once.
        """
        hashes = self.hash(keys)
        self._clock += 1
        slots = self._look(keys, hashes)
        self._used[slots[slots != ABSENT]] = self._clock
        # a second turn only if two new keys share a hash
        while len(rows := np.flatnonzero(slots == ABSENT)):
            fresh = rows[np.sort(np.unique(hashes[rows], return_index=True)[1])]
            if most is not None:
                fresh, most = fresh[:most], max(0, most - len(fresh))
                if not len(fresh):
                    break
            if self._limit - len(self) < len(fresh):
                self._make_room(len(fresh))
            taken = np.flatnonzero(~self._taken)[: len(fresh)]
            self._used[taken] = self._clock
            self.keys[taken], self._hashes[taken], self._taken[taken] = keys[fresh], hashes[fresh], True
            self._arrange()
            slots[rows] = self._look(keys[rows], hashes[rows])
        return slots

    def _make_room(self, wanted: int) -> None:
        live = self.live()
        count = max(self._limit // 4, wanted - (self._limit - len(live)))
        oldest = live[np.argpartition(self._used[live], count - 1)[:count]]
        self._forget(oldest)
        self._taken[oldest] = False
        self._arrange()

    def _look(self, keys: U64, hashes: U64) -> Indexes:
        if not len(self._order):
            return np.full(len(keys), ABSENT, np.intp)
        at = np.minimum(np.searchsorted(self._sorted, hashes), len(self._order) - 1)
        slots = self._order[at]
        same_hash = self._sorted[at] == hashes
        same = same_hash.copy()
        for column in range(keys.shape[1]):
            same &= self.keys[:, column][slots] == keys[:, column]
        slots[~same] = ABSENT
        if self._shadowed:
            for row in np.flatnonzero(same_hash & ~same).tolist():
                slots[row] = self._shadowed.get(keys[row].tobytes(), ABSENT)
        return slots

    def _arrange(self) -> None:
        live = self.live()
        hashes = self._hashes[live]
        order = np.argsort(hashes)
        self._sorted, self._order = hashes[order], live[order]
        shadowed = self._sorted[1:] == self._sorted[:-1]
        self._shadowed = {}
        if shadowed.any():
            behind = np.concatenate(([False], shadowed))
            self._shadowed = {self.keys[slot].tobytes(): slot for slot in self._order[behind].tolist()}
            self._sorted, self._order = self._sorted[~behind], self._order[~behind]


END_WORDS = 3  # the address as it is in memory, and the port


def end_keys(events: Events, end: str, rows: NDArray[np.intp]) -> U64:
    """The keys of some rows: the server's address and port, or the client's address."""
    # column by column: numpy copies a row of a structure field by field
    keys = np.zeros((len(rows), END_WORDS), np.uint64)
    keys[:, :2] = events[end][rows].view(np.uint64)
    if end == "server":
        keys[:, 2] = events["server_port"][rows]
    return keys
