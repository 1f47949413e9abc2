"""Which rows a list shows and in which order, computed by numpy over columns, never in a loop over rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.records.record import Handshake
from tracer.store.chunks import StoreRows
from tracer.store.list_columns import sort_keys
from tui.filtering import Filter

GATHERED = 1000  # records made at a time
ARRIVAL = ""  # no column: in the order of settling


@dataclass(frozen=True, slots=True)
class Order:
    """Rows in the order shown. `indexes` is None for all rows by their number."""

    rows: StoreRows
    indexes: NDArray[np.intp] | None
    descending: bool

    def __len__(self) -> int:
        return len(self.rows) if self.indexes is None else len(self.indexes)

    def row_at(self, position: int) -> int:
        """The row shown at a position; IndexError if there is none."""
        if not 0 <= position < len(self):
            raise IndexError(position)
        if self.indexes is not None:
            return int(self.indexes[position])
        return len(self.rows) - 1 - position if self.descending else position

    def rows_at(self, begin: int, end: int) -> NDArray[np.intp]:
        """The rows shown at these positions, as far as there are any."""
        end = min(end, len(self))
        if self.indexes is not None:
            return self.indexes[begin:end]
        positions = np.arange(begin, end)
        return len(self.rows) - 1 - positions if self.descending else positions

    def number_at(self, position: int) -> int:
        """The number of the row at a position, counted since the start: it names a row across snapshots."""
        return self.rows.first + self.row_at(position)

    def records(self) -> Iterator[Handshake]:
        """All records in the order shown, made GATHERED at a time."""
        for begin in range(0, len(self), GATHERED):
            yield from self.rows.gather(self.rows_at(begin, begin + GATHERED))

    def position_of(self, number: int) -> int | None:
        """The position of a row; None if it is not shown."""
        row = number - self.rows.first
        if not 0 <= row < len(self.rows):
            return None
        if self.indexes is None:
            return len(self.rows) - 1 - row if self.descending else row
        found = np.flatnonzero(self.indexes == row)
        return int(found[0]) if len(found) else None

    def newest(self, by_arrival: bool) -> int:
        """The position that following keeps selected: the newest row, or the top of a list in another order."""
        return len(self) - 1 if by_arrival and not self.descending else 0


def is_cheap(condition: Filter | None, sort: str) -> bool:
    """Can the order be made without looking at any row?"""
    return condition is None and sort == ARRIVAL


def arrange(rows: StoreRows, condition: Filter | None, sort: str, descending: bool) -> Order:
    """Filter and sort. 100,000 rows take tens of milliseconds: use a thread unless is_cheap().

    Rows with equal keys stay newest first; unknown values come last in both directions.
    """
    if is_cheap(condition, sort):
        return Order(rows, None, descending)
    chosen = rows.select(condition) if condition is not None else np.arange(len(rows))
    if sort == ARRIVAL:
        return Order(rows, chosen[::-1] if descending else chosen, descending)
    keys = sort_keys(rows, sort)[chosen]
    newest_first = chosen[::-1]
    keys = keys[::-1]
    unknown = np.isnan(keys) if keys.dtype.kind == "f" else np.zeros(len(keys), np.bool_)
    known = np.flatnonzero(~unknown)
    order = _sorted(keys[known], descending)
    places = np.concatenate((known[order], np.flatnonzero(unknown)))
    return Order(rows, newest_first[places], descending)


def _sorted(keys: NDArray[np.generic], descending: bool) -> NDArray[np.intp]:
    """A stable order in both directions."""
    if not descending:
        return np.argsort(keys, kind="stable")
    backwards = np.argsort(keys[::-1], kind="stable")[::-1]
    return len(keys) - 1 - backwards
