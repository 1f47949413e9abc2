"""What the dashboard sees: one immutable picture of the run, pulled four times a second (store.py makes it).

Nothing here changes after it was made, so it crosses threads without locks and a paused screen just keeps its picture.
Durations are microseconds, times nanoseconds of CLOCK_MONOTONIC, rates per second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tracer.aggregate.figures import Comparison, Distributions, Peer
from tracer.handshake.part import Part
from tracer.records.record import Balance, Handshake, NoticeRecord, Start, Totals


@dataclass(frozen=True, slots=True)
class Series:
    """One value a second, the oldest first; the last one is the last whole second."""

    handshakes: NDArray[np.int64]
    attempts: NDArray[np.int64]
    failed: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class HostState:
    """The traced namespace's own view: TcpExt counters now and at the start, sysctls as text."""

    counters: Mapping[str, int]
    counters_at_start: Mapping[str, int]
    sysctls: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class InterfaceState:
    """A traced interface as of now."""

    name: str
    index: int
    hook: str
    why: str
    others: tuple[str, ...]
    warnings: tuple[str, ...]
    present: bool


class MaskMaker(Protocol):
    """A filter (tracer.filters.filter.Filter): hashable, equal ones say the same of every row."""

    def mask(self, part: Part, /) -> NDArray[np.bool_]: ...


class Rows(Protocol):
    """The newest handshakes, numbered from 0 = the oldest held; `first` is the number of that one since the start.

    The array of `mask` is as long as the rows are many; rows do not move or change.
    """

    @property
    def first(self) -> int: ...
    def __len__(self) -> int: ...
    def record(self, row: int) -> Handshake:
        """The full record of one row; made when asked for."""
        ...

    def gather(self, rows: NDArray[np.intp]) -> list[Handshake]:
        """Those of any rows, in the order asked for: much cheaper than one by one, some thousand at most at a time."""
        ...

    def collect(self, key: object, make: Callable[[Part], Any]) -> list[tuple[Any, int, int]]:
        """`make` of all rows, piece by piece: its result, and from where to where in it rows are meant."""
        ...

    def mask(self, expression: MaskMaker) -> NDArray[np.bool_]:
        """Which rows a filters.filter.Filter lets through; rows that were asked about before cost nothing again."""
        ...

    def select(self, expression: MaskMaker) -> NDArray[np.intp]:
        """The numbers of the rows a filter (tracer.filters.filter.Filter) lets through, ascending."""
        ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything at one moment. `serial` grows whenever anything changed."""

    serial: int
    taken_ns: int
    started_ns: int
    start: Start | None
    interfaces: tuple[InterfaceState, ...]
    totals: Totals
    balance: Balance
    counters: Mapping[str, int]
    handshakes_per_s: float
    attempts_per_s: float
    series: Series
    comparisons: tuple[Comparison, ...]
    peers: Sequence[Peer]  # immutable; servers, then clients, the busiest first
    distributions: Distributions
    host: HostState | None
    table_size: int
    ring_fill: float  # share of the event ring that waits to be drained, 0..1
    drain_lag_us: float | None  # age of the newest record when it was drained
    notices: tuple[NoticeRecord, ...]  # newest last, at most 100
    rows: Rows
    ended: str | None  # why tracing ended, once it has
