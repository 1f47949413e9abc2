"""The newest handshakes and sums over the run, kept for the dashboard: one more sink of the pipeline.

The pipeline's thread writes, the dashboard's thread asks for snapshots. Rows are copied into chunks at once and added
up a chunk at a time, so a snapshot has little left to add and its cost does not depend on the event rate. Nothing
here grows with the number of handshakes: rows, peers, names and layouts have limits.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from tracer.aggregate.figures import Comparison, Distributions, Listening, Peer
from tracer.aggregate.peers import Peers
from tracer.encode.composer import Composer
from tracer.handshake.batch import Batch, RowKinds
from tracer.handshake.payloads import classified
from tracer.handshake.rows import Rows
from tracer.ipc.traced import TracedInterface
from tracer.linux import allocator
from tracer.records.cost import Cost
from tracer.records.record import Handshake
from tracer.records.run import Balance, End, InterfaceInfo, NoticeRecord, Start, Stats
from tracer.store.chunks import CHUNK_ROWS, Chunk, StoreRows
from tracer.store.cost import CostWindow
from tracer.store.snapshot import HostState, InterfaceState, Snapshot
from tracer.store.sums import Sums, rate

ROWS_HELD = 100_000
BEHIND_NS = 500_000_000  # `behind_ns` of a run: from some 8,000 handshakes a second on the writer comes sooner
NOTICES_HELD = 100
RECORDS_HELD = 256  # composed records: as many as some screens show
REFRESH_NS = 1_000_000_000  # peers, comparisons and distributions are made anew this often

_NO_BALANCE = Balance(0, 0, 0, 0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class _Pieces:
    """The parts of a snapshot that are expensive to make."""

    made_ns: int
    of_rows: int
    comparisons: tuple[Comparison, ...]
    peers: Sequence[Peer]
    listeners: tuple[Listening, ...]
    distributions: Distributions


class Store:
    """A sink (tracer.sinks.base.Sink) that makes snapshots.

    It keeps `limit` handshakes. `clock` gives nanoseconds of CLOCK_MONOTONIC; over recorded events it is the
    recording's. `refresh_ns`: how old peers, comparisons and distributions of a snapshot may be. `behind_ns`: how long
    a row may wait to be added up; until then snapshots may be without it. `replay_of`: the name of the file that is
    replayed. One thread calls the Sink's methods and the setters, any thread the others.
    """

    def __init__(
        self,
        limit: int = ROWS_HELD,
        *,
        composer: Composer | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        refresh_ns: int = REFRESH_NS,
        behind_ns: int = 0,
        replay_of: str | None = None,
    ) -> None:
        if limit < 1:
            raise ValueError("a store holds at least one handshake")
        self.limit = limit
        self._composer = composer if composer is not None else Composer({})
        self._clock = clock
        self._refresh_ns, self._behind_ns = refresh_ns, behind_ns
        self.replay_of = replay_of
        # guards the rows and the run's state, while a batch is copied
        # guards the sums, while rows are added up or a snapshot is made; taken before the rows' lock
        self._rows_lock = threading.Lock()
        self._sums_lock = threading.Lock()
        self._chunks: tuple[Chunk, ...] = ()
        self._in_last = 0  # rows of the last chunk that are final
        self._dropped = 0  # rows dropped since the last clear
        self._cleared = 0  # rows that were there before the last clear
        self._folded = 0  # rows since the last clear that are in the sums
        self._folded_ns = 0  # when the writer last added up all rows
        self._sums = Sums()
        self._pieces: _Pieces | None = None
        self._records: OrderedDict[int, Handshake] = OrderedDict()
        self._records_lock = threading.Lock()
        self._serial = 0
        self._started_ns = self._began_ns = clock()
        self._start: Start | None = None
        self._interfaces: dict[int, InterfaceState] = {}
        self._balance = _NO_BALANCE
        self._counters: Mapping[str, int] = {}
        self._host: HostState | None = None
        self._cost = CostWindow()
        self._ring_fill = 0.0
        self._drain_lag_us: float | None = None
        self._notices: deque[NoticeRecord] = deque(maxlen=NOTICES_HELD)
        self._ended: str | None = None
        self._ended_ns: int | None = None
        self._ended_early = False

    # --- Sink ---

    def start(self, record: Start) -> None:
        """The run begins; it names the interfaces, unless set_interfaces already did."""
        told = {interface.index: _state(interface) for interface in record.interfaces}
        with self._rows_lock:
            self._start = record
            self._started_ns = self._began_ns = self._clock()
            self._interfaces = {**told, **self._interfaces}
            self._serial += 1

    def write(self, batch: Batch) -> None:
        """Keep a batch. Its arrays are copied."""
        if not len(batch):
            return
        kinds = classified(batch)
        begin = 0
        while begin < len(batch):
            with self._rows_lock:
                begin = self._append(batch, begin, kinds)
                is_due = self._in_last == CHUNK_ROWS or self._written() - self._folded >= CHUNK_ROWS
                self._serial += 1
            if is_due:
                self._add_up()

    def _add_up(self) -> None:
        """So many at a time that numpy's cost for each call does not matter; and make room for the next chunk."""
        # if a snapshot has the lock, it is adding up rows itself
        if self._sums_lock.acquire(blocking=False):
            try:
                self._fold()
                self._folded_ns = self._clock()
            finally:
                self._sums_lock.release()
        self._pack()

    def _pack(self) -> None:
        """Full chunks whose rows are in the sums take less room from now on."""
        with self._rows_lock:
            done = (self._folded - self._dropped) // CHUNK_ROWS
            waiting = [chunk for chunk in self._chunks[:done] if not chunk.is_packed]
        for chunk in waiting:
            chunk.pack()

    def notice(self, record: NoticeRecord) -> None:
        """Keep the newest hundred."""
        with self._rows_lock:
            self._notices.append(record)
            self._serial += 1

    def stats(self, record: Stats) -> None:
        """The balance sheet and counters."""
        self.set_balance(record.balance, record.counters)

    def tick(self) -> None:
        """Return what the last second left free; nothing waits, for a snapshot adds up what is left."""
        allocator.give_back()

    def close(self, record: End | None) -> None:
        """Tracing has ended; snapshots go on."""
        if record is not None and record.balance is not None:  # None: keep the last one of a cut recording
            self.set_balance(record.balance, record.counters)
        self.end(record.reason if record is not None else "broken off", early=record is None or record.exit_code != 0)

    def end(self, reason: str, *, early: bool = False) -> None:
        """Say why nothing will come any more."""
        with self._rows_lock:
            self._ended, self._ended_early = reason, early
            self._ended_ns = self._ended_ns or self._clock()
            self._serial += 1

    # --- what the pipeline knows beside handshakes ---

    def set_balance(self, balance: Balance, counters: Mapping[str, int]) -> None:
        """The balance sheet and the kernel programs' counters as of now."""
        with self._rows_lock:
            self._balance, self._counters = balance, dict(counters)
            self._serial += 1

    def set_interfaces(self, interfaces: Iterable[TracedInterface | InterfaceInfo]) -> None:
        """The interfaces traced now. One that was named and is missing is shown, until its name is back."""
        there = {one.index: _state(one) for one in interfaces if isinstance(one, InterfaceInfo) or not one.through}
        names = {one.name for one in there.values()}
        states = {
            index: replace(state, present=False)
            for index, state in self._interfaces.items()
            if index not in there and state.named and state.name not in names
        } | there
        with self._rows_lock:
            self._interfaces = states
            self._serial += 1

    def set_host(self, counters: Mapping[str, int], sysctls: Mapping[str, str]) -> None:
        """TcpExt counters and sysctls of the traced namespace; the first call gives those at the start."""
        began = self._host.counters_at_start if self._host is not None else dict(counters)
        state = HostState(dict(counters), began, dict(sysctls))
        with self._rows_lock:
            self._host = state
            self._serial += 1

    def set_cost(self, cost: Cost, taken_ns: int) -> None:
        """What tracing has cost until then (CLOCK_MONOTONIC)."""
        with self._rows_lock:
            self._cost.add(cost, taken_ns)
            self._serial += 1

    def set_ring_fill(self, share: float) -> None:
        """Share of the event ring that waits to be drained, 0..1."""
        with self._rows_lock:
            self._serial += share != self._ring_fill
            self._ring_fill = share

    def set_drain_lag(self, lag_us: float | None) -> None:
        """Age of the newest record when it was drained, microseconds."""
        with self._rows_lock:
            self._serial += lag_us != self._drain_lag_us
            self._drain_lag_us = lag_us

    # --- rows ---

    def _written(self) -> int:
        """Rows since the last clear."""
        return self._dropped + max(0, len(self._chunks) - 1) * CHUNK_ROWS + self._in_last

    def _append(self, batch: Batch, begin: int, kinds: RowKinds) -> int:
        """Copy rows from `begin` on until the last chunk is full; return where they end."""
        if not self._chunks or self._in_last == CHUNK_ROWS:
            self._new_chunk(batch)
        end = min(len(batch), begin + CHUNK_ROWS - self._in_last)
        self._chunks[-1].fill(self._in_last, batch, begin, end, self._composer.offset_ns, kinds)
        self._in_last += end - begin
        return end

    def _new_chunk(self, batch: Batch) -> None:
        chunks = self._chunks
        fresh = Chunk(batch.events.dtype, self._composer)
        if chunks:
            chunks[-1].seal()
        # snapshots show only rows that are in the sums
        while self._folded - self._dropped - CHUNK_ROWS >= self.limit:
            chunks = chunks[1:]
            self._dropped += CHUNK_ROWS
        self._chunks = (*chunks, fresh)
        self._in_last = 0

    def _view(self) -> StoreRows:
        """The rows that are in the sums, so that a snapshot is consistent; the caller has the sums' lock."""
        with self._rows_lock:
            chunks, dropped, cleared = self._chunks, self._dropped, self._cleared
        held = self._folded - dropped
        shown = min(held, self.limit)
        skip = held - shown
        whole = skip // CHUNK_ROWS
        first = cleared + dropped + skip
        return StoreRows(chunks[whole:], skip - whole * CHUNK_ROWS, shown, first, self._record)

    def _record(self, numbers: Sequence[int], rows: Rows) -> list[Handshake]:
        """The records of rows that have these numbers."""
        with self._records_lock:
            known = self._records.get(numbers[0]) if len(rows) == 1 else None
            if known is not None:
                self._records.move_to_end(numbers[0])
                return [known]
        made = _compose(self._composer, rows)
        if len(made) > RECORDS_HELD:
            return made  # an export
        with self._records_lock:
            self._records.update(zip(numbers, made, strict=True))
            while len(self._records) > RECORDS_HELD:
                self._records.popitem(last=False)
        return made

    # --- sums ---

    def _fold(self) -> None:
        """Add up the rows that wait; the caller has the sums' lock."""
        with self._rows_lock:
            chunks, dropped, end = self._chunks, self._dropped, self._written()
        while self._folded < end:
            which, at = divmod(self._folded - dropped, CHUNK_ROWS)
            count = min(CHUNK_ROWS - at, end - self._folded)
            self._sums.add(chunks[which].part(at, at + count))
            self._folded += count

    def clear(self) -> None:
        """Forget rows and everything added up from them: totals, peers, distributions, series.

        What the kernel side counts stays: balance sheet, counters, host, interfaces, notices; rows go on being
        numbered from where they were.
        """
        with self._sums_lock, self._rows_lock:
            self._cleared += self._written()
            self._chunks, self._in_last, self._dropped, self._folded = (), 0, 0, 0
            self._sums = Sums()
            self._began_ns = self._clock()
            self._pieces = None
            self._serial += 1

    # --- snapshot ---

    def snapshot(self) -> Snapshot:
        """The picture as of now. Costs the same at every event rate: at most some thousand rows wait to be added up."""
        with self._sums_lock:
            with self._rows_lock:  # before the rows are looked at: a snapshot that says it is over has all of them
                ended, ended_early, ended_ns = self._ended, self._ended_early, self._ended_ns
            # what is over keeps its last minutes
            now = ended_ns or self._clock()
            # where many come the writer adds them up often enough
            if ended is not None or now - self._folded_ns >= self._behind_ns:
                self._fold()
            rows = self._view()
            sums = self._sums
            history = sums.history.view(self._began_ns, now)
            pieces = self._pieces
            # after the end the clock of a replay stands still, and nothing comes any more
            due = ended is not None or (pieces is not None and now - pieces.made_ns >= self._refresh_ns)
            if pieces is None or (pieces.of_rows != self._folded and due):
                pieces = self._pieces = _Pieces(
                    now,
                    self._folded,
                    sums.servers.comparisons(),
                    Peers(sums.servers, sums.clients),
                    sums.listeners.listening(),
                    sums.distributions.snapshot(),
                )
            with self._rows_lock:
                return Snapshot(
                    serial=self._serial,
                    taken_ns=now,
                    started_ns=self._started_ns,
                    start=self._start,
                    interfaces=tuple(self._interfaces.values()),
                    totals=history.total,
                    history=history,
                    balance=self._balance,
                    counters=self._counters,
                    handshakes_per_s=rate(history, "handshakes"),
                    attempts_per_s=rate(history, "attempts"),
                    comparisons=pieces.comparisons,
                    peers=pieces.peers,
                    listeners=pieces.listeners,
                    distributions=pieces.distributions,
                    host=self._host,
                    table_size=self._start.table_size if self._start is not None else 0,
                    cost=self._cost.view(),
                    ring_fill=self._ring_fill,
                    drain_lag_us=self._drain_lag_us,
                    notices=tuple(self._notices),
                    rows=rows,
                    ended=ended,
                    ended_early=ended_early,
                    replay_of=self.replay_of,
                )


def _compose(composer: Composer, rows: Rows) -> list[Handshake]:
    """The records of rows, with the times and payloads that were stored with them."""
    stamps = (rows.events["syn_ns"].astype(np.int64) + rows.offset_ns).astype("datetime64[ns]")
    records = composer.compose(rows.batch)
    times = np.datetime_as_string(stamps, timezone="UTC").tolist()
    return [msgspec.structs.replace(record, ts=ts) for record, ts in zip(records, times, strict=True)]


def _state(one: TracedInterface | InterfaceInfo) -> InterfaceState:
    others, warnings = tuple(one.others), tuple(one.warnings)
    named = isinstance(one, InterfaceInfo) or one.named
    return InterfaceState(one.name, one.index, one.hook, one.why, others, warnings, present=True, named=named)
