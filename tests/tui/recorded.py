"""Engines for tests: a store filled with recorded lab events, at once or bit by bit."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from tests.support.recording import Recording, load
from tracer.encode.composer import Composer
from tracer.handshake.batch import Batch
from tracer.records.cost import Cost
from tracer.store.snapshot import Snapshot
from tracer.store.store import Store
from tracer.vocabulary.vocabulary import Vantage

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
EVENTS = GOLDEN / "lab_events.npz"
# of two stats records of a demo, 9.997 s apart; the recording itself has none
COSTS = ((Cost(1173539.0, 467622.0, 7462534.0), 0), (Cost(1658417.0, 889911.0, 7462534.0), 9_996_901_640))


@cache
def recording() -> Recording:
    """The recorded lab events."""
    return load(EVENTS)


@cache
def batches() -> tuple[Batch, ...]:
    """The recorded lab events as sinks get them."""
    return tuple(recording().decoded())


RECORDED = sum(len(batch) for batch in batches())


@cache
def joined(count: int) -> Batch:
    """The first so many as one. A batch costs a store as much as a thousand rows, and most have one or two."""
    first = recording().batches[:count]
    kept = [np.concatenate(columns) for columns in zip(*first, strict=True)]
    (whole,) = replace(recording(), batches=[(kept[0], kept[1])]).decoded()
    return whole


class Recorded:
    """An engine over recorded events. Its clock is stopped and its key is fixed, so its pictures are always the same.

    `limit`: rows to keep; `share`: the part of the events that is there from the start; `local`: both ends are this
    host's.
    """

    def __init__(self, share: float = 1.0, limit: int = 100_000, *, local: bool = False) -> None:
        recorded = recording()
        composer = Composer(recorded.interfaces, offset_ns=recorded.start.boot_clock_offset_ns, _key=bytes(16))
        self.now_ns = recorded.begin_ns
        self.store = Store(limit, composer=composer, clock=lambda: self.now_ns, refresh_ns=0)
        self.store.start(recorded.start)
        self.store.set_host(dict.fromkeys(recorded.host_counters, 0), recorded.sysctls)
        self.store.set_host(recorded.host_counters, recorded.sysctls)
        self.store.set_balance(recorded.balance, recorded.counters)
        for cost, taken_ns in COSTS:
            self.store.set_cost(cost, taken_ns)
        there = int(len(batches()) * share)
        self._left = [joined(there), *batches()[there:]] if there else list(batches())
        if local:
            self._left = [replace(one, vantage=np.full(len(one), Vantage.LOCAL, np.uint8)) for one in self._left]
        self.feed(1 if there else 0)
        self.now_ns = recorded.end_ns + 1_000_000_000
        self.stopped = 0
        self.cleared = 0
        self.changes: dict[str, object] = {}
        self.failure: Exception | None = None

    def feed(self, count: int) -> int:
        """More batches arrive; returns how many handshakes that were."""
        now, self._left = self._left[:count], self._left[count:]
        for batch in now:
            self.store.write(batch)
        return sum(len(batch) for batch in now)

    def snapshot(self) -> Snapshot:
        """The store's, with what a test changed in it."""
        if self.failure is not None:
            raise self.failure
        taken = self.store.snapshot()
        return replace(taken, **self.changes) if self.changes else taken  # type: ignore[arg-type]

    def clear(self) -> None:
        """The store's."""
        self.cleared += 1
        self.store.clear()

    def stop(self) -> None:
        """Counted."""
        self.stopped += 1
