"""What the dashboard sees: an immutable picture of the run, which it takes four times a second (store.py).

Nothing here ever changes, so threads share it without locks, and a paused screen just keeps its snapshot.
Durations are microseconds, times nanoseconds of CLOCK_MONOTONIC, rates per second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tracer.aggregate.figures import Comparison, Distributions, Listening, Peer
from tracer.aggregate.history import HistoryView
from tracer.records.run import Balance, NoticeRecord, Start, Totals
from tracer.store.chunks import StoreRows
from tracer.store.cost import CostView


@dataclass(frozen=True, slots=True)
class HostState:
    """The traced namespace's own view: TcpExt counters now and at the start, sysctls as text."""

    counters: Mapping[str, int]
    counters_at_start: Mapping[str, int]
    sysctls: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class InterfaceState:
    """A traced interface as of now, or one that the user named and that is not traced now."""

    name: str
    index: int
    hook: str
    why: str
    others: tuple[str, ...]
    warnings: tuple[str, ...]
    present: bool
    named: bool = True


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything at one moment. `serial` grows whenever anything changed."""

    serial: int
    taken_ns: int
    started_ns: int
    start: Start | None
    interfaces: tuple[InterfaceState, ...]
    totals: Totals  # of the whole run, or since it was cleared
    history: HistoryView
    balance: Balance
    counters: Mapping[str, int]
    handshakes_per_s: float
    attempts_per_s: float
    comparisons: tuple[Comparison, ...]
    peers: Sequence[Peer]  # immutable; servers, then clients, the busiest first
    listeners: tuple[Listening, ...]  # of this host, as far as handshakes met them, the busiest first
    distributions: Distributions
    host: HostState | None
    table_size: int
    ring_fill: float  # share of the event ring that waits to be drained, 0..1
    drain_lag_us: float | None  # age of the newest record when it was drained
    notices: tuple[NoticeRecord, ...]  # newest last, at most 100
    rows: StoreRows
    ended: str | None  # why tracing ended; None while it goes on
    cost: CostView | None = None  # what tracing costs at the moment; None where it is not known
    ended_early: bool = False  # the end came before its time
    replay_of: str | None = None  # the file's name, without folders, if this is a replay
    moment: str | None = None  # its time of day, if it is of an earlier moment (past.py)
    held: int | None = None  # of an earlier moment: of how many handshakes peers and distributions are; None: of all

    @property
    def at_rest(self) -> bool:
        """Does time stand still: after the end, or since it shows an earlier moment?"""
        return self.ended is not None or self.moment is not None
