"""What the dashboard sees: one immutable picture of the run, pulled four times a second (store.py makes it).

Nothing here changes after it was made, so it crosses threads without locks and a paused screen just keeps its picture.
Durations are microseconds, times nanoseconds of CLOCK_MONOTONIC, rates per second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from tracer.records.record import Balance, Handshake, NoticeRecord, Start, Totals

if TYPE_CHECKING:
    from tracer.store.chunks import MaskMaker


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts in buckets: bucket i holds edges[i] <= value < edges[i + 1]."""

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Series:
    """One value a second, the oldest first; the last one is the last whole second."""

    handshakes: NDArray[np.int64]
    attempts: NDArray[np.int64]
    failed: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Comparison:
    """First response of one server with TFO (SYN data acked whole) and without (no data in the SYN), and its benefit.

    Of up to 256 handshakes of a kind medians and 90th percentiles are exact, of more they are a sample's; None without
    any. `sooner_us` (normal less TFO) and `sooner_rtts` (that in median round trips) are None without enough of both.
    """

    server: str  # address and port as people write them
    name: str | None  # the latest SNI or HTTP host seen in a SYN to it
    tfo_samples: int
    normal_samples: int
    tfo_median_us: float | None
    normal_median_us: float | None
    tfo_p90_us: float | None
    normal_p90_us: float | None
    rtt_median_us: float | None
    sooner_us: float | None
    sooner_rtts: float | None


@dataclass(frozen=True, slots=True)
class Peer:
    """One server, or one client where this host is the server."""

    role: str  # "server" or "client"
    ip: str
    port: int | None  # of a server
    name: str | None
    handshakes: int
    attempts: int
    accepted: int  # SYN data acked whole
    with_data: int  # attempts that carried data
    fallbacks: int  # SYN data not acked at all, or only a later bare SYN answered
    failed: int
    cookie_changes: int  # another cookie came back than was sent
    rtt_median_us: float | None  # within 10 %
    saved_us: float  # net: less what lost SYNs of attempts cost
    last_outcome: str | None
    last_seen_ns: int
    sooner_us: float | None = None  # as in Comparison
    sooner_rtts: float | None = None


@dataclass(frozen=True, slots=True)
class Distributions:
    """What the handshakes looked like; counters hold the most frequent values, the most frequent first."""

    rtt: Histogram
    rtt_tfo: Histogram
    first_response: Histogram
    mss: tuple[tuple[int | None, int], ...]
    wscale: tuple[tuple[int | None, int], ...]
    window: Histogram
    options: tuple[tuple[str, int], ...]
    names: tuple[tuple[str, int], ...]  # SNI and HTTP host


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


class Rows(Protocol):
    """The newest handshakes, numbered from 0 = the oldest held; `first` is the number of that one since the start.

    The arrays of `column` and `mask` are as long as the rows are many; rows do not move or change.
    """

    @property
    def first(self) -> int: ...
    def __len__(self) -> int: ...
    def record(self, row: int) -> Handshake:
        """The full record of one row; made when asked for."""
        ...

    def records(self, begin: int, end: int) -> list[Handshake]:
        """Those of rows begin..end, in that order: much cheaper than one by one."""
        ...

    def gather(self, rows: NDArray[np.intp]) -> list[Handshake]:
        """Those of any rows, in the order asked for: much cheaper than one by one, some thousand at most at a time."""
        ...

    def column(self, name: str) -> NDArray[np.generic]:
        """Sort keys of a column of tracer/store/list_columns.py: numbers (NaN = not known) or strings of bytes."""
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
