"""Sums over the run, added to a batch at a time; nothing here grows with the number of handshakes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tracer.aggregate.failed_places import FailedPlaces
from tracer.aggregate.tally import CELLS, PART, tally, totals_of
from tracer.handshake.batch import Batch
from tracer.handshake.events import F64
from tracer.records.run import Balance, Totals


class Aggregate:
    """Totals of a run."""

    def __init__(self) -> None:
        self._cells: F64 = np.zeros(CELLS)
        self._places = FailedPlaces()

    @property
    def handshakes(self) -> int:
        """How many there were."""
        return int(self._cells[PART["handshakes"].start])

    @property
    def attempts(self) -> int:
        """How many tried Fast Open."""
        return int(self._cells[PART["attempts"].start])

    def add(self, batch: Batch) -> None:
        """Count a batch."""
        self.add_counted(batch, tally(batch)[0])

    def add_counted(self, batch: Batch, cells: F64) -> None:
        """Add a batch whose cells are known."""
        self._cells += cells
        self._places.add(batch)

    def cells(self) -> F64:
        """A copy of the cells of all batches."""
        return self._cells.copy()

    def totals(self) -> Totals:
        """The sums so far."""
        return totals_of(self._cells, self._places.failed_at())


def balance(counters: Mapping[str, int], still_open: int, received: int, dropped: int) -> Balance:
    """The balance sheet from the kernel programs' counters; no term is computed from the others."""
    return Balance(
        opened=counters.get("opened", 0),
        emitted=counters.get("emitted", 0),
        lost=counters.get("lost", 0),
        evicted=sum(value for name, value in counters.items() if name.startswith("evicted_")),
        suppressed=counters.get("suppressed", 0),
        still_open=still_open,
        received=received,
        dropped=dropped,
    )


def losses(sheet: Balance) -> int:
    """Handshakes that were opened and will never be shown."""
    return sheet.lost + sheet.evicted + sheet.suppressed + sheet.dropped
