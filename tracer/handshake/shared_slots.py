"""Which rows of a batch need the same slot of a table? Mostly none do, which this finds without sorting."""

from __future__ import annotations

import numpy as np

from tracer.handshake.events import Bool, Indexes


class SharedSlots:
    """For tables of so many slots."""

    def __init__(self, slots: int) -> None:
        self._rows = np.zeros(slots, np.uint32)

    def of(self, slots: Indexes) -> Bool:
        """Does another row have the slot, too?"""
        rows = np.arange(len(slots), dtype=np.uint32)
        self._rows[slots] = rows
        shared: Bool = self._rows[slots] != rows
        self._rows[slots[::-1]] = rows[::-1]
        shared |= self._rows[slots] != rows
        return shared
