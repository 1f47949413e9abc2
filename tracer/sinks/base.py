"""The interface of a sink: start, write batches, tick, close. The pipeline drives all sinks alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.batch import Batch
from tracer.ipc.traced import TracedInterface
from tracer.records.cost import Cost
from tracer.records.run import Balance, End, NoticeRecord, Start, Stats


class SinkClosedError(Exception):
    """The reader has gone (a closed pipe): a normal end, not a failure."""


class SinkFullError(Exception):
    """The reader has stopped and its buffer is full: the sink dropped `records` of a batch."""

    def __init__(self, records: int) -> None:
        super().__init__(records)
        self.records = records


class Sink(Protocol):
    """A consumer of records. Methods raise SinkClosedError if the reader left, EndedEarlyError if writing failed.

    `write` may raise SinkFullError; the sink still takes the next batch.
    """

    def start(self, record: Start) -> None: ...
    def write(self, batch: Batch) -> None: ...
    def notice(self, record: NoticeRecord) -> None: ...
    def stats(self, record: Stats) -> None: ...
    def tick(self) -> None: ...
    def close(self, record: End | None) -> None: ...


class Outlet(Protocol):
    """Where bytes go: a stream, or a file that rotates. Takes whole records only."""

    def begin(self, head: Callable[[int], bytes], tail: Callable[[], bytes]) -> None: ...
    def is_full(self) -> bool: ...
    def make_room(self, more: int) -> None: ...
    def write(self, data: bytes) -> None: ...
    def tick(self) -> None: ...
    def reopen(self) -> None: ...
    def close(self, last: Callable[[], bytes] | None = None) -> None: ...


@runtime_checkable
class Reopens(Protocol):
    """A sink with files that SIGHUP closes and opens again."""

    def reopen(self) -> None: ...


@runtime_checkable
class TakesPackets(Protocol):
    """A sink that takes the handshakes' packets; each comes before its record."""

    def take_packets(self, packets: NDArray[np.void]) -> None: ...


class StatusListener(Protocol):
    """Takes the run's state besides handshakes."""

    def set_balance(self, balance: Balance, counters: Mapping[str, int]) -> None: ...
    def set_interfaces(self, interfaces: Iterable[TracedInterface]) -> None: ...
    def set_host(self, counters: Mapping[str, int], sysctls: Mapping[str, str]) -> None: ...
    def set_cost(self, cost: Cost, taken_ns: int) -> None: ...
    def set_ring_fill(self, share: float) -> None: ...
    def set_drain_lag(self, lag_us: float | None) -> None: ...


class Observer(Sink, StatusListener, Protocol):
    """A sink that is also a listener: the dashboard's store, metrics."""
