"""A whole run in at most some hundred steps: they are seconds at first, and each time there is no room two become one.

Where history.py forgets what is older than an hour, this forgets how fine it was. Times are of the wall clock.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.aggregate.aggregate import Aggregate
from tracer.aggregate.history import NS_PER_S, HistoryView, Steps, places_by_step, places_joined
from tracer.aggregate.place_sums import Place
from tracer.aggregate.tally import CELLS, tally
from tracer.handshake.batch import Batch
from tracer.handshake.events import F64

STEPS_HELD = 512
_NEVER_S = 1 << 60
# connect times in buckets of equal ratio, 12 % each: 20 a decade, from 1 us to 1,000 s
_A_DECADE, _DECADES = 20, 9
_BUCKETS = _A_DECADE * _DECADES
_MIDDLES: F64 = 10.0 ** ((np.arange(_BUCKETS) + 0.5) / _A_DECADE)


@dataclass(frozen=True, slots=True)
class SeriesView:
    """A copy. `history` answers for the whole run what a dashboard's answers for an hour."""

    history: HistoryView
    connects: NDArray[np.int64]  # [steps, buckets], of the steps in history.coarse


class Series:
    """Adds up batches by the times of their first SYNs; one thread at a time. They may come in any order."""

    def __init__(self, limit: int = STEPS_HELD) -> None:
        self.total = Aggregate()
        self.size_s = 1
        self._slots: dict[int, int] = {}  # where the sums of a step are, by its number
        self._cells: F64 = np.zeros((limit, CELLS))
        self._connects: NDArray[np.int64] = np.zeros((limit, _BUCKETS), np.int64)
        self._places: list[dict[Place, int]] = [{} for _ in range(limit)]
        self._began_ns = self._now_ns = 0

    def add(self, batch: Batch, offset_ns: int) -> None:
        """Count a batch. `offset_ns`: CLOCK_REALTIME less the clock of its times.

        By the time of settling the last steps would have more failures than others, for these settle late.
        """
        if not len(batch):
            return
        syn_ns = batch.events["syn_ns"].astype(np.int64) + offset_ns
        self._began_ns = min(self._began_ns or int(syn_ns[0]), int(syn_ns.min()))
        self._now_ns = max(self._now_ns, int(syn_ns.max()))
        numbers, step = self._steps(syn_ns // NS_PER_S)
        cells = tally(batch, step, len(numbers))
        self.total.add_counted(batch, cells.sum(axis=0))
        slots = [self._slots.setdefault(number, len(self._slots)) for number in numbers]
        self._cells[slots] += cells
        self._connects[slots] += _connects(batch.durations.connect_us, step, len(numbers))
        for slot, found in zip(slots, places_by_step(batch, step, len(numbers)), strict=True):
            if found:
                self._places[slot] = places_joined(self._places[slot], found)

    def _steps(self, seconds: NDArray[np.int64]) -> tuple[list[int], NDArray[np.intp]]:
        """Numbers of the steps that some seconds are in, and of each second which of them; there is room for all."""
        while True:
            found, step = np.unique(seconds // self.size_s, return_inverse=True)
            numbers: list[int] = found.tolist()
            if len(self._slots.keys() | set(numbers)) <= len(self._places):
                return numbers, step
            self._double()

    def _double(self) -> None:
        """Make one step of two."""
        self.size_s *= 2
        before, self._slots = self._slots, {}
        moved = [self._slots.setdefault(number // 2, len(self._slots)) for number in before]
        old = list(before.values())
        cells, connects = np.zeros_like(self._cells), np.zeros_like(self._connects)
        places: list[dict[Place, int]] = [{} for _ in self._places]
        np.add.at(cells, moved, self._cells[old])
        np.add.at(connects, moved, self._connects[old])
        for to, slot in zip(moved, old, strict=True):
            places[to] = places_joined(places[to], self._places[slot])
        self._cells, self._connects, self._places = cells, connects, places

    def view(self) -> SeriesView:
        """As it stands."""
        numbers = sorted(self._slots)
        slots = [self._slots[number] for number in numbers]
        places = tuple(self._places[slot] for slot in slots)
        steps = Steps(self.size_s, np.array(numbers, np.int64), self._cells[slots], places)
        none = Steps(1, steps.number[:0], steps.cells[:0], ())
        reach_s = self._now_ns // NS_PER_S - numbers[0] * self.size_s + 1 if numbers else 1
        history = HistoryView(
            self._began_ns, self._now_ns, self.total.totals(), self.total.cells(), none, steps, _NEVER_S, reach_s
        )
        return SeriesView(history, self._connects[slots])


def connect_quantile(connects: NDArray[np.int64], share: float) -> F64:
    """The quantile of each row of buckets in microseconds, to 6 %; NaN without any."""
    sums = connects.cumsum(axis=1)
    whole = sums[:, -1:]
    place = (sums < np.maximum(1, np.ceil(share * whole))).sum(axis=1)
    found: F64 = np.where(whole[:, 0] > 0, _MIDDLES[np.minimum(place, _BUCKETS - 1)], np.nan)
    return found


def _connects(connect_us: F64, step: NDArray[np.intp], steps: int) -> NDArray[np.int64]:
    known = np.flatnonzero(~np.isnan(connect_us))
    bucket = (np.log10(np.maximum(connect_us[known], 1.0)) * _A_DECADE).astype(np.intp)
    at = step[known] * _BUCKETS + np.minimum(bucket, _BUCKETS - 1)
    return np.bincount(at, minlength=steps * _BUCKETS).reshape(steps, _BUCKETS)
