"""Bounded memory for whole batches at a time: what was noted of a peer, found by a hash of the bytes that name it.

A table of slots of which each has one place for a key: a new key takes the place of the old one. Nothing grows, a look
is a handful of numpy calls, and what is forgotten is forgotten for good.
"""

from __future__ import annotations

import secrets

import numpy as np
from numpy.typing import NDArray

from tracer.tfo import U8, Bool

U64 = NDArray[np.uint64]
Slots = NDArray[np.intp]


class RowHash:
    """64 bits for each row of bytes, under a secret of the run, so that nobody can choose bytes that collide.

    Words of 32 bits times random words of 64, added up modulo 2^64: the upper half of such a sum is universal.
    """

    def __init__(self, width: int) -> None:
        """`width` in bytes, a multiple of 4."""
        self._factors = np.frombuffer(secrets.token_bytes(2 * width), np.uint64)

    def of(self, *columns: U8) -> U64:
        """Of the bytes of some [n, m] columns, side by side. Never 0, which stands for an empty slot."""
        rows = np.concatenate(columns, axis=1)
        words = rows.view(np.uint32).astype(np.uint64)
        sums: U64 = words @ self._factors
        return sums | np.uint64(1)


class SlotTable:
    """Columns of numbers by a hash; 0 is what a new key begins with."""

    def __init__(self, slots: int, *names: str) -> None:
        """`slots`: a power of two."""
        self._shift = np.uint64(64 - (slots.bit_length() - 1))
        self._keys = np.zeros(slots, np.uint64)
        self._columns = {name: np.zeros(slots, np.uint64) for name in names}

    def __getitem__(self, name: str) -> U64:
        """A column, by slot."""
        return self._columns[name]

    def find(self, keys: U64) -> tuple[Slots, Bool]:
        """The slot of each key, and whether it is the key's."""
        slots = (keys >> self._shift).astype(np.intp)
        return slots, self._keys[slots] == keys

    def claim(self, keys: U64) -> tuple[Slots, Bool]:
        """The same after giving each key its slot; of two keys of the batch that want one, the last has it."""
        slots = (keys >> self._shift).astype(np.intp)
        taken = slots[self._keys[slots] != keys]
        for column in self._columns.values():
            column[taken] = 0
        self._keys[slots] = keys
        return slots, self._keys[slots] == keys

    def clear(self) -> None:
        """Forget everything."""
        self._keys[:] = 0
        for column in self._columns.values():
            column[:] = 0
