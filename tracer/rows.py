"""The newest handshakes as the dashboard holds them: append-only chunks of columns, which snapshots share by reference.

A row never changes once it was published, so views of it stay valid as long as somebody holds them; the oldest chunk
is simply let go. Cached sort keys and filter masks belong to whole chunks and go with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import compress
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tracer.cause_columns import Causes
from tracer.decode import Batch, RowOwners
from tracer.events import Events
from tracer.payload import Payload
from tracer.process_desk import merge_owners
from tracer.records import Handshake, Process
from tracer.tfo import U8, Verdicts
from tracer.timing import Durations

CHUNK_ROWS = 4096
CACHED = 12  # of a full chunk: keys of sorted columns and masks of filters, the latest asked for
KEPT_COLUMNS = 6  # of a full chunk: what filters look at, so that the next filter finds it ready

_VERDICTS = tuple(one.name for one in fields(Verdicts))
_DURATIONS = tuple(one.name for one in fields(Durations))
_CAUSES = tuple(one.name for one in fields(Causes))


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of one chunk, as columns. `payload` is an index into `payloads`; 0 there is None: not captured."""

    events: Events
    verdicts: Verdicts
    durations: Durations
    vantage: U8
    offset_ns: NDArray[np.int64]  # CLOCK_REALTIME - CLOCK_MONOTONIC when the row was written
    payload: NDArray[np.uint16]
    payloads: Sequence[Payload | None]
    names: RowNames
    causes: Causes
    owners: RowOwners | None = None
    kept: dict[str, Any] | None = None  # columns of a full chunk; elsewhere they are made anew

    def __len__(self) -> int:
        return len(self.events)

    def column(self, name: str, make: Callable[[Part], Any]) -> Any:
        """A column that `make` makes, kept where that helps."""
        if self.kept is None:
            return make(self)
        found = self.kept.get(name)
        if found is None:
            found = make(self)
            _keep(self.kept, name, found, KEPT_COLUMNS)
        return found

    @property
    def batch(self) -> Batch:
        """The same rows as sinks get them, without payloads."""
        return Batch(self.events, self.verdicts, self.durations, self.vantage, {}, self.causes, owners=self.owners)


class RowNames(Protocol):
    """What rows mean by their numbers: names of interfaces, and all that only a composer knows."""

    def interface(self, index: int) -> tuple[str, str]:
        """Name and hook of an interface."""
        ...

    @property
    def cgroups(self) -> Mapping[int, str | None]:
        """Names of cgroups by number."""
        ...

    def records(self, part: Part) -> Iterable[Handshake]:
        """The records of some rows, without what was in their payloads: slow, for what is seldom asked."""
        ...


@dataclass(frozen=True, slots=True)
class Coded:
    """A column of often few distinct values: `values[codes[row]]`. None = not known."""

    values: Sequence[Any]
    codes: NDArray[np.intp]


def _keep(kept: dict[Any, Any], key: object, value: Any, limit: int) -> None:
    # two threads may ask at once: list() is one step, an iterator would not be
    for oldest in list(kept)[: len(kept) + 1 - limit]:
        kept.pop(oldest, None)
    kept[key] = value


class Chunk:
    """Room for CHUNK_ROWS rows. Rows up to the number that snapshots were told are final."""

    __slots__ = (
        "_cache", "_kept", "_names", "_owner_places", "_owner_table", "_owners", "_places", "_raw", "causes",
        "durations", "events", "offset_ns", "payload", "payloads", "vantage", "verdicts",
    )  # fmt: skip

    def __init__(self, dtype: np.dtype[Any], names: RowNames) -> None:
        n = CHUNK_ROWS
        self.events: Events = np.empty(n, dtype)
        # copying a structured array goes field by field, its bytes go at once
        self._raw = self.events.view(f"V{dtype.itemsize}")
        self.verdicts = Verdicts(
            request=np.empty(n, np.uint8),
            outcome=np.empty(n, np.uint8),
            group=np.empty(n, np.uint8),
            attempted=np.empty(n, np.bool_),
            acked_payload_len=np.empty(n, np.uint32),
            answered_after_us=np.empty(n, np.float64),
            answer_known=np.empty(n, np.bool_),
        )
        self.durations = Durations(*(np.empty(n, np.float64) for _ in _DURATIONS))
        self.vantage = np.empty(n, np.uint8)
        self.causes = Causes(*(np.empty(n, np.uint8) for _ in _CAUSES))
        self.offset_ns = np.empty(n, np.int64)
        self.payload = np.empty(n, np.uint16)
        self.payloads: list[Payload | None] = [None]
        self._places: dict[int, int] = {}
        self._owner_table: list[Process | None] = [None]
        self._owner_places: dict[Process, int] = {}
        self._owners = RowOwners(np.zeros(n, np.uint32), np.zeros(n, np.uint32), self._owner_table)
        self._names = names
        self._cache: dict[object, Any] = {}
        self._kept: dict[str, Any] = {}

    def fill(self, at: int, batch: Batch, begin: int, end: int, offset_ns: int, found: Mapping[int, Payload]) -> None:
        """Copy rows begin..end of a batch to `at`; `found` holds what the payload of some of its rows is."""
        to, source = slice(at, at + end - begin), slice(begin, end)
        self._raw[to] = batch.events[source].view(self._raw.dtype)
        for name in _VERDICTS:
            getattr(self.verdicts, name)[to] = getattr(batch.verdicts, name)[source]
        for name in _DURATIONS:
            getattr(self.durations, name)[to] = getattr(batch.durations, name)[source]
        self.vantage[to] = batch.vantage[source]
        for name in _CAUSES:
            getattr(self.causes, name)[to] = getattr(batch.causes, name)[source]
        self.offset_ns[to] = offset_ns
        if batch.owners is not None:
            moved = np.array(merge_owners(batch.owners, self._owner_places, self._owner_table), np.uint32)
            self._owners.client[to] = moved[batch.owners.client[source]]
            self._owners.server[to] = moved[batch.owners.server[source]]
        self.payload[to] = 0
        if found:
            rows = np.fromiter(found, np.intp, len(found))
            inside = (rows >= begin) & (rows < end)
            self.payload[rows[inside] + (at - begin)] = [
                self._place(payload) for payload in compress(found.values(), inside.tolist())
            ]

    def _place(self, payload: Payload) -> int:
        # by identity, which `payloads` keeps from being reused: classify() gives one object for equal ones mostly
        key = id(payload)
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = len(self.payloads)
            self.payloads.append(payload)
        return place

    def seal(self) -> None:
        """No row will be added: give back what only writing needs."""
        self._places = {}
        self._owner_places = {}

    def part(self, begin: int, end: int) -> Part:
        """Rows begin..end as columns."""
        rows = slice(begin, end)
        return Part(
            self.events[rows],
            Verdicts(*(getattr(self.verdicts, name)[rows] for name in _VERDICTS)),
            Durations(*(getattr(self.durations, name)[rows] for name in _DURATIONS)),
            self.vantage[rows],
            self.offset_ns[rows],
            self.payload[rows],
            self.payloads,
            self._names,
            self.causes.rows(rows),
            self._owners.rows(rows),
        )

    def cached(self, key: object, make: Callable[[Part], Any]) -> Any:
        """What `make` says of all rows of a full chunk; asked for again it costs nothing."""
        found = self._cache.get(key)
        if found is None:
            found = make(replace(self.part(0, CHUNK_ROWS), kept=self._kept))
            _keep(self._cache, key, found, CACHED)
        return found


@dataclass(frozen=True, slots=True)
class StoreRows:
    """tracer.snapshot.Rows over chunks: all but the last are full; `skip` rows of the first are no longer shown."""

    chunks: tuple[Chunk, ...]
    skip: int
    length: int
    first: int
    compose: Callable[[int, Part], list[Handshake]] = field(repr=False)

    def __len__(self) -> int:
        return self.length

    def part(self, row: int) -> Part:
        """One row as columns of length 1. IndexError if there is no such row."""
        if not 0 <= row < self.length:
            raise IndexError(f"row {row} of {self.length}")
        which, at = divmod(self.skip + row, CHUNK_ROWS)
        return self.chunks[which].part(at, at + 1)

    def record(self, row: int) -> Handshake:
        """The full record of one row; made when asked for. IndexError if there is no such row."""
        return self.compose(self.first + row, self.part(row))[0]

    def records(self, begin: int, end: int) -> list[Handshake]:
        """The records of rows begin..end, made together, which is much cheaper than one by one."""
        found: list[Handshake] = []
        for row in range(begin, end):
            which, at = divmod(self.skip + row, CHUNK_ROWS)
            if row == begin or at == 0:
                part = self.chunks[which].part(at, min(CHUNK_ROWS, at + end - row))
                found += self.compose(self.first + row, part)
        return found

    def parts(self) -> Iterator[Part]:
        """All rows, the oldest first, some thousand at a time."""
        for chunk, begin, end in self._pieces():
            yield chunk.part(begin, end)

    def _pieces(self) -> Iterator[tuple[Chunk, int, int]]:
        end = self.skip + self.length
        for which, chunk in enumerate(self.chunks):
            start = which * CHUNK_ROWS
            last = min(CHUNK_ROWS, end - start)
            begin = self.skip if which == 0 else 0
            if begin < last:
                yield chunk, begin, last

    def collect(self, key: object, make: Callable[[Part], Any]) -> list[tuple[Any, int, int]]:
        """`make` of every chunk with the rows of it that count: kept for full chunks, made anew for the open one."""
        found = []
        for chunk, begin, end in self._pieces():
            if end == CHUNK_ROWS:
                found.append((chunk.cached(key, make), begin, end))
            else:
                found.append((make(chunk.part(0, end)), begin, end))
        return found

    def column(self, name: str) -> NDArray[np.generic]:
        """Sort keys of a column, as tracer.columns.sort_keys gives them. KeyError if there is no such column."""
        from tracer.columns import sort_keys

        return sort_keys(self, name)

    def mask(self, expression: MaskMaker) -> NDArray[np.bool_]:
        """Which rows a filter (tracer.filter.Filter) lets through; only new rows cost anything the next time."""
        pieces = [made[begin:end] for made, begin, end in self.collect(expression, expression.mask)]
        return np.concatenate(pieces) if pieces else np.zeros(0, np.bool_)

    def select(self, expression: MaskMaker) -> NDArray[np.intp]:
        """The numbers of the rows a filter lets through, ascending."""
        return np.flatnonzero(self.mask(expression))


class MaskMaker(Protocol):
    """A filter (tracer.filter.Filter): hashable, equal ones say the same of every row."""

    def mask(self, part: Part, /) -> NDArray[np.bool_]: ...
