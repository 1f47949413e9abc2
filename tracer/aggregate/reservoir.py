"""Bounded samples of exact durations, and quantiles of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.aggregate.keyindex import Indexes
from tracer.handshake.events import F64

_FIRST = np.zeros(1, np.intp)


class _Random:
    """SplitMix64 (Steele, Lea and Flood 2014), many numbers at a time: numpy's generators are 2 MB of libraries."""

    _GOLDEN = np.uint64(0x9E3779B97F4A7C15)
    _MIX = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))

    def __init__(self, seed: int) -> None:
        self._state = np.uint64(seed)

    def numbers(self, count: int) -> F64:
        """`count` numbers, uniform from 0 to below 1."""
        steps = np.arange(1, count + 1, dtype=np.uint64)
        steps *= self._GOLDEN
        steps += self._state
        if count:
            self._state = steps[-1]
        for shift, factor in self._MIX:
            steps ^= steps >> shift
            steps *= factor
        steps ^= steps >> np.uint64(31)
        found: F64 = (steps >> np.uint64(11)).astype(np.float64)
        found *= 2.0**-53
        return found


@dataclass(frozen=True, slots=True)
class Ordered:
    """Samples of some rows [n, size] in order, and how many each row has."""

    values: NDArray[np.float32]
    kept: Indexes

    def at(self, place: Indexes) -> F64:
        """The value at a place of each row."""
        found: F64 = self.values[np.arange(len(self.kept)), place].astype(np.float64)
        return found

    def quantile(self, share: float) -> F64:
        """The quantile of each row, interpolated; NaN without samples."""
        last = np.maximum(self.kept - 1, 0)
        at = last * share
        low = np.floor(at).astype(np.intp)
        below, above = self.at(low), self.at(np.minimum(low + 1, last))
        found: F64 = below + (above - below) * (at - low)
        return found


def ordered(values: NDArray[np.float32], counts: NDArray[np.int64]) -> Ordered:
    """Sort samples [n, size] of rows that had so many values; a copy."""
    size = values.shape[1]
    kept = np.minimum(counts, size)
    # places that were never written count as NaN, which sorts to the end
    there = np.arange(size) < kept[:, None]
    return Ordered(np.sort(np.where(there, values, np.float32(np.nan)), axis=1), kept)


class Reservoir:
    """Rows of up to `size` values each: all of them as long as there are no more, so that quantiles are exact to seven
    digits, and then a uniform sample of all that came (reservoir sampling, algorithm R), whose quantiles are near those
    of all.
    """

    def __init__(self, rows: int, size: int) -> None:
        self.size = size
        # empty and not zeros: pages that no row uses are never touched
        self.values = np.empty((rows, size), np.float32)
        self.counts = np.zeros(rows, np.int64)
        # numbers of 16 bits are sorted without comparing them
        self._order_by = np.min_scalar_type(rows)
        # the same numbers each time, so that a replay gives the same results
        self._random = _Random(7413)

    def add(self, rows: Indexes, values: F64) -> None:
        """Add to each of these rows a value; a row may be named several times."""
        if not len(rows):
            return
        order = rows.astype(self._order_by).argsort(kind="stable")
        rows = rows[order]
        starts = np.flatnonzero(rows[1:] != rows[:-1]) + 1
        starts = np.concatenate((_FIRST, starts))
        lengths = np.empty_like(starts)
        np.subtract(starts[1:], starts[:-1], out=lengths[:-1])
        lengths[-1] = len(rows) - starts[-1]
        place = self.counts[rows]  # how many came before
        place += np.arange(len(rows))
        place -= np.repeat(starts, lengths)
        kept = self._chosen(place)
        self.values[rows[kept], place[kept]] = values[order[kept]]  # of two in one place the later stays
        self.counts[rows[starts]] += lengths

    def add_to(self, row: int, values: F64) -> None:
        """Add values to one row."""
        place = np.arange(self.counts[row], self.counts[row] + len(values))
        kept = self._chosen(place)
        self.values[row, place[kept]] = values[kept]
        self.counts[row] += len(values)

    def _chosen(self, place: NDArray[np.int64]) -> Indexes:
        """Which of the values that came after so many others are kept; `place` then says where."""
        late = np.flatnonzero(place >= self.size)
        if len(late):
            place[late] = self._random.numbers(len(late)) * (place[late] + 1)
        return np.flatnonzero(place < self.size)

    def clear(self, rows: Indexes) -> None:
        """Reset these."""
        self.counts[rows] = 0
