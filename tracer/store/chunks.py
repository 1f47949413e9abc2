"""The newest handshakes for the dashboard, in append-only chunks of columns, which snapshots share by reference.

A published row never changes, so views of it stay valid as long as anything refers to them. Full chunks are packed
(packed.py), and the oldest one is dropped, together with its cached sort keys and filter masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tracer.dissect.payload import Payload
from tracer.handshake.batch import Batch, RowKinds
from tracer.handshake.columns import Columns, joined
from tracer.handshake.owners import merge_owners
from tracer.handshake.rows import RowNames, Rows, keep
from tracer.records.ends import Process
from tracer.records.record import Handshake
from tracer.store.packed import Packed

CHUNK_ROWS = 4096
CACHED = 2  # of a full chunk: the latest keys of sorted columns and masks of filters


class Chunk:
    """Room for CHUNK_ROWS rows. Rows that a snapshot has counted are final."""

    __slots__ = (
        "_cache", "_columns", "_kept", "_names", "_owner_places", "_owner_table", "_places", "payloads",
    )  # fmt: skip

    def __init__(self, dtype: np.dtype[Any], names: RowNames) -> None:
        self._columns: Columns | Packed = Columns.empty(CHUNK_ROWS, dtype)
        self.payloads: list[Payload | None] = [None]
        self._places = {id(None): 0}
        self._owner_table: list[Process | None] = [None]
        self._owner_places: dict[Process | None, int] = {None: 0}
        self._names = names
        self._cache: dict[object, Any] = {}
        self._kept: dict[str, Any] = {}

    def fill(self, at: int, batch: Batch, begin: int, end: int, offset_ns: int, kinds: RowKinds) -> None:
        """Copy rows begin..end of a batch to `at`; `kinds` says what their SYNs carried."""
        assert isinstance(self._columns, Columns)
        rows, source = self._columns.rows(slice(at, at + end - begin)), slice(begin, end)
        # numpy copies a structured array field by field, but its bytes at once
        raw = f"V{rows.events.dtype.itemsize}"
        rows.events.view(raw)[:] = batch.events[source].view(raw)
        for name, column in rows.judged():
            kind, _, one = name.partition(".")
            column[:] = getattr(getattr(batch, kind), one)[source]
        rows.vantage[:] = batch.vantage[source]
        rows.offset_ns[:] = offset_ns
        rows.client_owner[:] = rows.server_owner[:] = 0
        if batch.owners is not None:
            moved = np.array(merge_owners(batch.owners, self._owner_places, self._owner_table), np.uint32)
            rows.client_owner[:] = moved[batch.owners.client[source]]
            rows.server_owner[:] = moved[batch.owners.server[source]]
        carried = kinds.places[source]
        used = np.flatnonzero(np.bincount(carried))
        moved = np.zeros(len(kinds.table), np.uint16)
        moved[used] = self._numbered([kinds.table[place] for place in used.tolist()])
        rows.payload[:] = moved[carried]

    def _numbered(self, payloads: Sequence[Payload | None]) -> list[int]:
        """The place of each in `payloads`, which gets those that are new."""
        # by identity, safe while `payloads` has the object: classify() mostly returns one object for equal payloads
        keys = [*map(id, payloads)]
        for key, payload in zip(keys, payloads, strict=True):
            if key not in self._places:
                self._places[key] = len(self.payloads)
                self.payloads.append(payload)
        return [*map(self._places.__getitem__, keys)]

    def seal(self) -> None:
        """No more rows will come: free what only writing needs."""
        self._places = {}
        self._owner_places = {}

    def pack(self) -> None:
        """Compress the rows of a full chunk. Parts that were taken before stay as they are."""
        if isinstance(self._columns, Columns):
            self._columns = Packed(self._columns)

    @property
    def is_packed(self) -> bool:
        """Has it been packed?"""
        return isinstance(self._columns, Packed)

    def part(self, begin: int, end: int) -> Rows:
        """Rows begin..end as columns."""
        return self._part(self._columns.rows(slice(begin, end)))

    def pick(self, rows: NDArray[np.intp]) -> Rows:
        """Some rows, copied."""
        return self._part(self._columns.rows(rows))

    def _part(self, columns: Columns, kept: dict[str, Any] | None = None) -> Rows:
        return Rows.of(columns, self.payloads, self._names, self._owner_table, kept)

    def whole(self, kept: dict[str, Any] | None = None) -> Rows:
        """All rows of a full chunk; of the records only the fields that are read are unpacked."""
        columns = self._columns
        return self._part(columns.view() if isinstance(columns, Packed) else columns, kept)

    def cached(self, key: object, make: Callable[[Rows], Any]) -> Any:
        """What `make` returns for all rows of a full chunk; the latest results are cached."""
        found = self._cache.get(key)
        if found is None:
            found = make(self.whole(self._kept))
            keep(self._cache, key, found, CACHED)
        return found

    def forget(self) -> None:
        """Drop what is cached."""
        self._cache.clear()
        self._kept.clear()


class MaskMaker(Protocol):
    """A filter (tracer.filters.filter.Filter): hashable, and equal ones give equal masks."""

    def mask(self, part: Rows, /) -> NDArray[np.bool_]: ...


def _together(parts: list[Rows]) -> Rows:
    """Rows of several chunks in one."""
    if len(parts) == 1:
        return parts[0]
    columns = joined(parts)
    payloads: list[Payload | None] = [None]
    owners: list[Process | None] = [None]
    for part in parts:
        payloads += [part.payloads[place] for place in part.payload.tolist()]
    for end in ("client_owner", "server_owner"):
        for part in parts:
            owners += [part.owner_table[place] for place in getattr(part, end).tolist()]
    count = len(columns)
    places = np.arange(1, count + 1, dtype=np.uint32)
    carried = np.where(columns.payload, places, 0).astype(np.uint16)
    columns = replace(columns, payload=carried, client_owner=places, server_owner=places + np.uint32(count))
    return Rows.of(columns, payloads, parts[0].names, owners)


@dataclass(frozen=True, slots=True)
class StoreRows:
    """The newest handshakes, numbered from 0 = the oldest held; rows do not move or change.

    `first` is the number of row 0 since the start. All chunks but the last are full; `skip` rows of the first one are
    no longer shown.
    """

    chunks: tuple[Chunk, ...]
    skip: int
    length: int
    first: int
    compose: Callable[[Sequence[int], Rows], list[Handshake]] = field(repr=False)  # numbers since the start, and rows

    def __len__(self) -> int:
        return self.length

    def part(self, row: int) -> Rows:
        """One row as columns of length 1. IndexError if there is no such row."""
        if not 0 <= row < self.length:
            raise IndexError(f"row {row} of {self.length}")
        which, at = divmod(self.skip + row, CHUNK_ROWS)
        return self.chunks[which].part(at, at + 1)

    def record(self, row: int) -> Handshake:
        """The full record of one row, composed now. IndexError if there is no such row."""
        return self.compose((self.first + row,), self.part(row))[0]

    def gather(self, rows: NDArray[np.intp]) -> list[Handshake]:
        """The records of any rows, some thousands at most, in their order; each chunk is read once."""
        if not len(rows):
            return []
        which, at = np.divmod(self.skip + rows, CHUNK_ROWS)
        order = np.argsort(which, kind="stable")
        starts = np.flatnonzero(np.diff(which[order], prepend=-1))
        pieces = np.split(order, starts[1:])
        part = _together([self.chunks[int(which[piece[0]])].pick(at[piece]) for piece in pieces])
        made = self.compose((self.first + rows[order]).tolist(), part)
        found = dict(zip(order.tolist(), made, strict=True))
        return [found[place] for place in range(len(rows))]

    def pieces(self) -> Iterator[tuple[Chunk, int, int]]:
        """Each chunk, and its rows that count: from begin to below end."""
        end = self.skip + self.length
        for which, chunk in enumerate(self.chunks):
            start = which * CHUNK_ROWS
            last = min(CHUNK_ROWS, end - start)
            begin = self.skip if which == 0 else 0
            if begin < last:
                yield chunk, begin, last

    def since(self, row: int) -> Iterator[tuple[Rows, int, int]]:
        """The chunks with the rows from this one on, and which of their rows these are: from begin to below end."""
        before = 0
        for chunk, begin, end in self.pieces():
            before += end - begin
            if before > row:
                rows = chunk.whole() if end == CHUNK_ROWS else chunk.part(0, end)
                yield rows, max(begin, end - (before - row)), end

    def forget(self) -> None:
        """Drop what is cached for sorts and filters."""
        for chunk in self.chunks:
            chunk.forget()

    def collect(self, key: object, make: Callable[[Rows], Any]) -> list[tuple[Any, int, int]]:
        """What `make` returns for every chunk, and its rows that count; cached for full chunks."""
        found = []
        for chunk, begin, end in self.pieces():
            if end == CHUNK_ROWS:
                found.append((chunk.cached(key, make), begin, end))
            else:
                found.append((make(chunk.part(0, end)), begin, end))
        return found

    def mask(self, expression: MaskMaker) -> NDArray[np.bool_]:
        """Which rows pass a filter (filters.filter.Filter); the next time only new rows cost anything."""
        pieces = [made[begin:end] for made, begin, end in self.collect(expression, expression.mask)]
        return np.concatenate(pieces) if pieces else np.zeros(0, np.bool_)

    def select(self, expression: MaskMaker) -> NDArray[np.intp]:
        """The numbers of the rows that pass a filter, ascending."""
        return np.flatnonzero(self.mask(expression))
