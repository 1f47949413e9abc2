"""Bounded memory for whole batches at a time: notes about a peer, found by a hash of the bytes that identify it.

Each slot of the table has room for one key: a new key replaces the old one. The table never grows, and a lookup takes
a handful of numpy calls.
"""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import U64, Bool, Indexes

_NOT_EMPTY = np.uint64(1)
_LOWER, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


class WordHash:
    """A hash of 64 bits for each row of words, under a secret of the run, so that nobody can choose colliding bytes.

    It adds up words of 32 bits times random words of 64, modulo 2^64: the upper half of such a sum is universal. So is
    the upper half of a sum of such sums with different secrets, which makes a key of many parts.
    """

    def __init__(self, width: int) -> None:
        """`width` is in words of 64 bits, which are hashed by halves."""
        self._factors = np.frombuffer(secrets.token_bytes(16 * width), np.uint64).reshape(width, 2)

    def of(self, *words: U64) -> U64:
        """Hash `width` columns of words."""
        sums: U64 = np.zeros(len(words[0]), np.uint64)
        for column, (lower, upper) in zip(words, self._factors, strict=True):
            sums += (column & _LOWER) * lower
            sums += (column >> _HALF) * upper
        return sums


class NumberHash:
    """The same for one number below 2^32."""

    def __init__(self) -> None:
        self._factor = np.uint64(secrets.randbits(64))

    def of(self, numbers: NDArray[np.unsignedinteger]) -> U64:
        """Hash a column."""
        return numbers * self._factor


class SlotTable:
    """Columns of numbers by a hash, ignoring its lowest bit; a new key starts with 0."""

    def __init__(self, slots: int, *names: str, **narrow: type[np.unsignedinteger]) -> None:
        """`slots`: a power of two. Columns are of 64 bits, or as narrow as is said."""
        self._shift = np.uint64(64 - (slots.bit_length() - 1))
        self._keys = np.zeros(slots, np.uint64)
        kinds: dict[str, type[np.unsignedinteger]] = {**dict.fromkeys(names, np.uint64), **narrow}
        self._columns: dict[str, NDArray[Any]] = {name: np.zeros(slots, kind) for name, kind in kinds.items()}

    def __getitem__(self, name: str) -> NDArray[Any]:
        """A column, by slot."""
        return self._columns[name]

    def find(self, keys: U64) -> tuple[Indexes, Bool]:
        """The slot of each key, and whether it holds that key."""
        slots = (keys >> self._shift).astype(np.intp)
        return slots, self._keys[slots] == keys | _NOT_EMPTY

    def claim(self, keys: U64) -> tuple[Indexes, Bool]:
        """The same after giving each key its slot; if two keys of the batch need one slot, the last gets it."""
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
