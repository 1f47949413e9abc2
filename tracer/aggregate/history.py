"""The last hour in steps, seconds at first and then quarters of a minute; and what any stretch of it adds up to.

A step holds the cells of tally.py. Nothing here grows with the number of handshakes or with time.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tracer.aggregate.aggregate import Aggregate
from tracer.aggregate.keyindex import end_keys
from tracer.aggregate.place_sums import ByReason, Place, PlaceSums
from tracer.aggregate.returning import Returning
from tracer.aggregate.tally import CELLS, HAS_FAILED, PART, accepted_and_lived, fate_cell, tally, totals_of, unexplained
from tracer.handshake.batch import Batch
from tracer.handshake.events import F64
from tracer.records.failed_at import FailedAt
from tracer.records.run import Totals
from tracer.vocabulary.addresses import ip_text
from tracer.vocabulary.fates import FAILED_RESULTS
from tracer.vocabulary.vocabulary import HandshakeCause, word

NS_PER_S = 1_000_000_000
FINE_S, FINE_STEPS = 1, 330
COARSE_S, COARSE_STEPS = 15, 244
PLACES_HELD = 64  # of each step: servers, by reason; those where Fast Open alone had trouble are at most half
_FATES = range(PART["fates"].start, PART["fates"].stop)

# of this process, so that nobody can choose addresses whose hashes are equal
_ODD = np.array([secrets.randbits(64) | 1 for _ in range(5)], np.uint64)

Ends = NDArray[np.int64]
T = TypeVar("T")


class Window(Enum):
    """Which handshakes a screen sums up: those of the last so many seconds, or all."""

    MINUTE = "1 min"
    FIVE_MINUTES = "5 min"
    HOUR = "1 h"
    ALL = "all"

    @property
    def seconds(self) -> int | None:
        """How far it goes back; None for all."""
        return {"1 min": 60, "5 min": 300, "1 h": 3600}.get(self.value)


@dataclass(frozen=True, slots=True)
class Where:
    """The server of handshakes with a reason: address (None where they are of several), port, how many, and of how many
    that is the place of most. `lately`: these are the newest ones only."""

    ip: str | None
    port: int
    handshakes: int
    of: int
    lately: bool = False


@dataclass(frozen=True, slots=True)
class Steps:
    """Steps of one size, the oldest first; steps without handshakes are left out. `number` times `size_s` is a step's
    begin in seconds of the records' clock."""

    size_s: int
    number: Ends
    cells: F64  # [steps, CELLS]
    places: tuple[dict[Place, int], ...]

    def since(self, begin_s: int) -> slice:
        """The steps that begin at or after a second."""
        return slice(int(np.searchsorted(self.number, -(-begin_s // self.size_s))), None)

    def upto(self, end: int) -> Steps:
        """The first steps."""
        return Steps(self.size_s, self.number[:end], self.cells[:end], self.places[:end])

    def with_part(self, number: int, finer: Steps, chosen: slice) -> Steps:
        """These, and the begun step with a number: it holds some finer ones."""
        if not len(finer.number[chosen]):
            return self
        places: dict[Place, int] = {}
        for one in finer.places[chosen]:
            places = places_joined(places, one)
        return Steps(
            self.size_s,
            np.append(self.number, number),
            np.concatenate((self.cells, finer.cells[chosen].sum(axis=0, keepdims=True))),
            (*self.places, places),
        )


class _Ring:
    """The newest steps of one size."""

    def __init__(self, size_s: int, steps: int) -> None:
        self.size_s, self._steps = size_s, steps
        self._cells: F64 = np.zeros((steps, CELLS))
        self._number: Ends = np.full(steps, -1, np.int64)
        # each is replaced, never changed: views share them
        self._places: list[dict[Place, int]] = [{} for _ in range(steps)]
        self.newest = -1

    def add(self, seconds: Ends, cells: F64, places: list[dict[Place, int]]) -> None:
        """Add what is known of some seconds, in ascending order; what is too old is left out."""
        number = seconds // self.size_s
        self.newest = max(self.newest, int(number[-1]))
        first = int(np.searchsorted(number, self.newest - self._steps + 1))
        number, cells = number[first:], cells[first:]
        slots = number % self._steps
        stale = self._number[slots] != number
        for slot in set(slots[stale].tolist()):
            self._cells[slot] = 0
            self._places[slot] = {}
        self._number[slots] = number
        np.add.at(self._cells, slots, cells)
        for slot, found in zip(slots.tolist(), places[first:], strict=True):
            if found:
                self._places[slot] = places_joined(self._places[slot], found)

    def view(self) -> Steps:
        """A copy."""
        slots = np.flatnonzero(self._number > max(-1, self.newest - self._steps))
        slots = slots[np.argsort(self._number[slots])]
        places = tuple(self._places[slot] for slot in slots.tolist())
        return Steps(self.size_s, self._number[slots], self._cells[slots], places)


def places_joined(one: dict[Place, int], other: dict[Place, int]) -> dict[Place, int]:
    """Both, as far as there is room: what was there first stays."""
    joined = dict(one)
    for place, times in other.items():
        if place in joined or len(joined) < _held(place):
            joined[place] = joined.get(place, 0) + times
    return joined


def _held(place: Place) -> int:
    return PLACES_HELD if place[0] in _FATES else PLACES_HELD // 2


class History:
    """Adds up batches; one thread at a time. `total` is the whole run's."""

    def __init__(self) -> None:
        self.total = Aggregate()
        self._returning = Returning()
        self._fine, self._coarse = _Ring(FINE_S, FINE_STEPS), _Ring(COARSE_S, COARSE_STEPS)
        self._place_sums = PlaceSums()

    def add(self, batch: Batch) -> None:
        """Count a batch at the times when its handshakes settled."""
        if not len(batch):
            return
        second = (batch.events["settled_ns"] // np.uint64(NS_PER_S)).astype(np.int64)
        if second.min() == second.max():  # as nearly always while packets are traced
            seconds, place = second[:1], np.zeros(len(second), np.intp)
        else:
            seconds, place = np.unique(second, return_inverse=True)
        cells = tally(batch, place, len(seconds))
        worked = accepted_and_lived(batch.verdicts)
        returning = self._returning.of(batch, worked)
        for name, chosen in (("returning", returning), ("returning_lived", returning & worked)):
            cells[:, PART[name].start] = np.bincount(place[chosen], minlength=len(seconds))
        self.total.add_counted(batch, cells.sum(axis=0))
        places = places_by_step(batch, place, len(seconds))
        for ring in (self._fine, self._coarse):
            ring.add(seconds, cells, places)

    def view(self, began_ns: int, now_ns: int) -> HistoryView:
        """As it stands. Times are of the records' clock: when counting began, and now."""
        total, since = self.total, max(now_ns // NS_PER_S, self._fine.newest) - FINE_STEPS + 1
        fine, coarse = self._fine.view(), self._coarse.view()
        return HistoryView(
            began_ns, now_ns, total.totals(), total.cells(), fine, coarse, since, _place_sums=self._place_sums
        )


def places_by_step(batch: Batch, step: NDArray[np.intp], steps: int) -> list[dict[Place, int]]:
    """Servers of handshakes that failed, have a cause or had no gain by Fast Open, by step; the most frequent first."""
    found: list[dict[Place, int]] = [{} for _ in range(steps)]
    rows, cells = _troubled(batch)
    if not len(rows):
        return found
    keys = np.column_stack((step[rows].astype(np.uint64), cells, end_keys(batch.events, "server", rows)))
    # equal keys by a hash of 64 bits: numpy compares whole rows twenty times slower
    hashes = np.zeros(len(keys), np.uint64)
    for column, odd in enumerate(_ODD):
        hashes = (hashes ^ keys[:, column]) * odd
        hashes ^= hashes >> np.uint64(32)
    _, first, times = np.unique(hashes, return_index=True, return_counts=True)
    for at in np.argsort(-times, kind="stable").tolist():
        row = keys[first[at]]
        places, place = found[int(row[0])], (int(row[1]), row[2:4].tobytes(), int(row[4]))
        if len(places) < _held(place):
            places[place] = int(times[at])
    return found


def _troubled(batch: Batch) -> tuple[NDArray[np.intp], NDArray[np.uint64]]:
    """Rows that something went wrong with, and the cell of the reason; a row may have two."""
    result, causes = batch.events["result"], batch.causes
    fated = np.flatnonzero(HAS_FAILED[result] | (causes.handshake_cause != 0))
    caused, unlucky = np.flatnonzero(causes.cause), np.flatnonzero(unexplained(batch))
    cells = (
        _FATES.start + result[fated].astype(np.uint64) * len(HandshakeCause) + causes.handshake_cause[fated],
        PART["causes"].start + causes.cause[caused].astype(np.uint64),
        PART["unexplained"].start + batch.verdicts.outcome[unlucky].astype(np.uint64),
    )
    return np.concatenate((fated, caused, unlucky)), np.concatenate(cells)


@dataclass(frozen=True, slots=True)
class HistoryView:
    """What a snapshot has of the history; it never changes. `began_ns` and `now_ns` are of the records' clock."""

    began_ns: int
    now_ns: int
    total: Totals
    total_cells: F64
    fine: Steps
    coarse: Steps
    fine_since_s: int  # the first second that fine steps are complete from
    reach_s: int = 3600  # how far back steps are looked at where no window says so
    # by seconds; made when somebody asks
    _totals: dict[int, Totals] = field(default_factory=dict, compare=False, repr=False)
    _sums: dict[int, F64] = field(default_factory=dict, compare=False, repr=False)
    _places: dict[int, ByReason] = field(default_factory=dict, compare=False, repr=False)
    _place_sums: PlaceSums = field(default_factory=PlaceSums, compare=False, repr=False)  # from one view to the next
    _found: dict[Callable[[HistoryView], Any], Any] = field(default_factory=dict, compare=False, repr=False)

    def once(self, make: Callable[[HistoryView], T]) -> T:
        """What `make` finds in it; several parts of a screen ask for the same."""
        if make not in self._found:
            self._found[make] = make(self)
        found: T = self._found[make]
        return found

    def _chosen(self, span_s: int) -> tuple[Steps, slice]:
        begin_s = self.now_ns // NS_PER_S - span_s + 1
        steps = self.fine if begin_s >= self.fine_since_s else self.coarse
        return steps, steps.since(begin_s)

    def until(self, time_ns: int) -> HistoryView:
        """What it was at an earlier moment, at most an hour ago; without the servers of the run's failures.

        Exact to a second, beyond some five minutes to COARSE_S: what settled in the moment's coarse step is left out.
        """
        end_s = time_ns // NS_PER_S + 1
        later_fine = self.fine.since(end_s).start if end_s > self.fine_since_s else 0
        later = int(np.searchsorted((self.coarse.number + 1) * COARSE_S, end_s, side="right"))
        gone, begin = (self.fine, later_fine) if end_s > self.fine_since_s else (self.coarse, later)
        cells = np.maximum(self.total_cells - gone.cells[begin:].sum(axis=0), 0.0)
        fine, coarse = self.fine.upto(later_fine), self.coarse.upto(later)
        begin_s = end_s - end_s % COARSE_S
        if begin_s >= self.fine_since_s:
            coarse = coarse.with_part(begin_s // COARSE_S, fine, fine.since(begin_s))
        began_ns = min(self.began_ns, time_ns)
        return HistoryView(began_ns, time_ns, totals_of(cells, ()), cells, fine, coarse, self.fine_since_s)

    def totals(self, window: Window) -> Totals:
        """The totals of a window."""
        return self.total if window.seconds is None else self.totals_of_last(window.seconds)

    def totals_of_last(self, span_s: int) -> Totals:
        """The totals of the last seconds, the running one among them; at most an hour.

        Beyond some five minutes it is exact to COARSE_S.
        """
        if span_s not in self._totals:
            cells = self.sums_of_last(span_s)
            self._totals[span_s] = totals_of(cells, self._failed_at(span_s, cells))
        return self._totals[span_s]

    def sums(self, window: Window) -> F64:
        """The cells of a window."""
        return self.total_cells if window.seconds is None else self.sums_of_last(window.seconds)

    def sums_of_last(self, span_s: int) -> F64:
        """The cells of the last seconds, as totals_of_last counts them."""
        if span_s not in self._sums:
            steps, chosen = self._chosen(span_s)
            self._sums[span_s] = steps.cells[chosen].sum(axis=0)
        return self._sums[span_s]

    def pieces(self) -> tuple[tuple[Steps, slice], tuple[Steps, slice]]:
        """Coarse steps, and from where fine ones reach back without a gap these: each moment is in one of them."""
        turn = -(-self.fine_since_s // COARSE_S) * COARSE_S
        return (self.coarse, slice(0, self.coarse.since(turn).start)), (self.fine, self.fine.since(turn))

    def cells(self, ages_s: Sequence[int], chosen: Sequence[int]) -> F64:
        """Chosen cells [n - 1, chosen] of the stretches between n ascending ages in seconds; the running one has age 0.

        Row i holds what settled at ages from ages_s[i] to below ages_s[i + 1]; beyond some five minutes each coarse
        step counts at the age of its newest second.
        """
        found: F64 = np.zeros((len(ages_s) - 1, len(chosen)))
        now_s = self.now_ns // NS_PER_S
        for steps, part in self.pieces():
            age = now_s - ((steps.number[part] + 1) * steps.size_s - 1)
            row = np.searchsorted(ages_s, age, side="right") - 1
            there = np.flatnonzero((row >= 0) & (row < len(found)))
            if len(there):
                begins = np.flatnonzero(np.diff(row[there], prepend=-1))  # the rows fall, since the steps are in order
                cells = steps.cells[part][:, list(chosen)][there]
                found[row[there[begins]]] += np.add.reduceat(cells, begins)
        return found

    def seconds(self, name: str, count: int) -> NDArray[np.int64]:
        """One of the single counts of tally.py for each of the last whole seconds, the oldest first.

        They are `count`, at most FINE_STEPS - 1, or as many as there were since counting began.
        """
        last = self.now_ns // NS_PER_S - 1
        began = min(self.began_ns // NS_PER_S, *self.fine.number[:1].tolist(), last + 1)
        length = min(count, FINE_STEPS - 1, last - began + 1)
        found = np.zeros(length, np.int64)
        place = self.fine.number - (last - length + 1)
        there = (place >= 0) & (place < length)
        found[place[there]] = self.fine.cells[there, PART[name].start]
        return found

    def failed_of(self, window: Window) -> Counter[tuple[str, int]]:
        """Handshakes that failed in a window, by the server's address and port; of `all` those of the last hour.

        Where they were more than PLACES_HELD servers' in a step, the rarest are left out.
        """
        found: Counter[tuple[str, int]] = Counter()
        for at, ends in self._places_of_last(window.seconds or Window.HOUR.seconds or 0).items():
            if at in _FATES and HAS_FAILED[(at - _FATES.start) // len(HandshakeCause)]:
                for (ip, port), times in ends.items():
                    found[ip_text(ip), port] += times
        return found

    def _failed_at(self, span_s: int, cells: F64) -> tuple[FailedAt, ...]:
        found = []
        for result in FAILED_RESULTS:
            total = int(cells[PART["results"]][result])
            begin = fate_cell(result, 0)
            reasons = range(begin, begin + len(HandshakeCause))
            where = _most(self._where(span_s, reasons), total) if total else None
            if where is not None:
                found.append(FailedAt(word(result), where.ip, where.port, where.handshakes))
        return tuple(found)

    def where(self, window: Window, reason: int) -> Where | None:
        """The server, else the port, of more than half of the handshakes with a reason (its cell) in a window.

        None where no one has so many, or where too many servers were affected to count each; of `all` the last hour's.
        """
        return self.where_of_last(window.seconds or self.reach_s, reason)

    def where_of_last(self, span_s: int, reason: int) -> Where | None:
        """The same of the last seconds."""
        return _most(self._where(span_s, (reason,)), int(self.sums_of_last(span_s)[reason]))

    def _where(self, span_s: int, reasons: Iterable[int]) -> Counter[tuple[bytes, int]]:
        sums: Counter[tuple[bytes, int]] = Counter()
        places = self._places_of_last(span_s)
        for reason in places.keys() & set(reasons):
            sums.update(places[reason])
        return sums

    def _places_of_last(self, span_s: int) -> ByReason:
        """Servers by reason."""
        if span_s not in self._places:
            steps, chosen = self._chosen(span_s)
            numbers, places = steps.number[chosen].tolist(), steps.places[chosen]
            self._places[span_s] = self._place_sums.of(span_s, numbers, places)
        return self._places[span_s]


def _most(sums: Counter[tuple[bytes, int]], total: int) -> Where | None:
    """The server, else the port, of more than half."""
    ports: Counter[int] = Counter()
    for (_, port), times in sums.items():
        ports[port] += times
    for (ip, port), times in sums.most_common(1):
        if 2 * times > total:
            return Where(ip_text(ip), port, times, total)
    for port, times in ports.most_common(1):
        if 2 * times > total:
            return Where(None, port, times, total)
    return None
