"""Notes by key in bounded memory, and what they said before each row of a batch: batches of any size judge alike."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from tracer.causes.slot_table import SlotTable
from tracer.handshake.events import U64, Bool, Indexes

V = TypeVar("V")
_SPAN = 1 << 32  # more than a batch has rows
_MARKS, _HIGHEST = 1 << 12, np.uint64(52)  # keys are hashes: so many differ in their highest bits


def likely_among(keys: U64, wanted: U64) -> Indexes:
    """Places of all keys that are among the wanted ones, and of few others."""
    marks = np.zeros(_MARKS, np.bool_)
    marks[wanted >> _HIGHEST] = True
    found: Indexes = marks[keys >> _HIGHEST].nonzero()[0]
    return found


class Earlier:
    """The notes of one batch."""

    def __init__(self, keys: U64, rows: Indexes, wanted: U64) -> None:
        """`keys` were noted at `rows`; only the wanted ones will be asked for."""
        self._wanted = np.sort(wanted)  # of equal ones the first is looked up
        kept = likely_among(keys, self._wanted)
        places = np.minimum(np.searchsorted(self._wanted, keys[kept]), len(self._wanted) - 1)
        exact = self._wanted[places] == keys[kept]
        kept = kept[exact]
        ranks = places[exact] * _SPAN + rows[kept]
        order = np.argsort(ranks, kind="stable")
        self._notes, self._ranks = kept[order], ranks[order]

    def before(self, keys: U64, rows: Indexes) -> tuple[Indexes, Bool]:
        """The latest note of each key before its row, and whether there is one."""
        if not len(self._notes):
            return np.zeros(len(keys), np.intp), np.zeros(len(keys), np.bool_)
        places = np.searchsorted(self._wanted, keys)
        at = np.searchsorted(self._ranks, places * _SPAN + rows) - 1
        there: Bool = (at >= 0) & (self._ranks[at] // _SPAN == places)
        return self._notes[at], there


class Notes:
    """A table of the latest note of each key."""

    def __init__(self, slots: int, *names: str) -> None:
        self._table = SlotTable(slots, *names)
        self._names = names

    def past(self, earlier: Earlier, new: tuple[U64, ...], keys: U64, rows: Indexes) -> tuple[Bool, list[U64]]:
        """Was each key noted before its row, and the columns of that note; 0 without one.

        `earlier` has the notes of this batch, `new` their columns, which add() takes afterwards.
        """
        slots, known = self._table.find(keys)
        at, there = earlier.before(keys, rows)
        columns = []
        for name, noted in zip(self._names, new, strict=True):
            column = np.where(known, self._table[name][slots], np.uint64(0))
            column[there] = noted[at[there]]
            columns.append(column)
        return known | there, columns

    def add(self, keys: U64, *columns: U64) -> None:
        """Note these, in their order."""
        slots, own = self._table.claim(keys)
        if own.all():
            own_slots = slots
            for name, column in zip(self._names, columns, strict=True):
                self._table[name][own_slots] = column
            return
        for name, column in zip(self._names, columns, strict=True):
            self._table[name][slots[own]] = column[own]


def recall(memory: OrderedDict[int, V], key: int, make: Callable[[], V], limit: int) -> V:
    """What is remembered of a key, which is now the latest; the oldest is forgotten where there are too many."""
    found = memory.get(key)
    if found is None:
        found = memory[key] = make()
        if len(memory) > limit:
            memory.popitem(last=False)
    else:
        memory.move_to_end(key)
    return found
