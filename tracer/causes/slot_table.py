"""Bounded memory for whole batches at a time: what was noted of a peer, found by a hash of the bytes that name it.

A table of slots of which each has one place for a key: a new key takes the place of the old one. Nothing grows, a look
is a handful of numpy calls, and what is forgotten is forgotten for good.
"""

from __future__ import annotations

import secrets

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import Bool

U64 = NDArray[np.uint64]
Slots = NDArray[np.intp]

_NOT_EMPTY = np.uint64(1)
_LOWER, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


class WordHash:
    """64 bits for each row of words, under a secret of the run, so that nobody can choose bytes that collide.

    Words of 32 bits times random words of 64, added up modulo 2^64: the upper half of such a sum is universal. So is
    that of the sum of several such sums, under a secret each: a key of many parts is made of the parts' sums.
    """

    def __init__(self, width: int) -> None:
        """`width` in words of 64 bits, which are taken by halves."""
        self._factors = np.frombuffer(secrets.token_bytes(16 * width), np.uint64).reshape(width, 2)

    def of(self, *words: U64) -> U64:
        """Of `width` columns of words."""
        sums: U64 = np.zeros(len(words[0]), np.uint64)
        for column, (lower, upper) in zip(words, self._factors, strict=True):
            sums += (column & _LOWER) * lower
            sums += (column >> _HALF) * upper
        return sums


class NumberHash:
    """The same of one number below 2^32."""

    def __init__(self) -> None:
        self._factor = np.uint64(secrets.randbits(64))

    def of(self, numbers: NDArray[np.unsignedinteger]) -> U64:
        """Of a column."""
        return numbers * self._factor


class SlotTable:
    """Columns of numbers by a hash, whose lowest bit does not count; 0 is what a new key begins with."""

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
        return slots, self._keys[slots] == keys | _NOT_EMPTY

    def claim(self, keys: U64) -> tuple[Slots, Bool]:
        """The same after giving each key its slot; of two keys of the batch that want one, the last has it."""
        slots = (keys >> self._shift).astype(np.intp)
        keys = keys | _NOT_EMPTY
        new = self._keys[slots] != keys
        if not new.any():
            return slots, ~new
        taken = slots[new]
        for column in self._columns.values():
            column[taken] = 0
        self._keys[slots] = keys
        return slots, self._keys[slots] == keys

    def clear(self) -> None:
        """Forget everything."""
        self._keys[:] = 0
        for column in self._columns.values():
            column[:] = 0
