"""The columns of a full chunk, compressed: a handshake takes about 130 bytes instead of 500.

Most of a record repeats the record before. The records are packed a few hundred at a time, so that one can be read
without the others. The columns beside them are packed for a whole chunk, together with the fields of the records by
which lists are sorted and filtered most.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import zstandard
from numpy.typing import NDArray

from tracer.handshake.columns import BESIDE, Beside, Columns, assembled
from tracer.handshake.events import Events, Selection
from tracer.handshake.recycled import Recycled

BLOCK_ROWS = 256
_LEVEL = -1  # of zstd: the fastest that finds nearly all repetitions
# fields that can be read without unpacking the records
_KEYS = ("syn_ns", "client", "server", "client_port", "server_port", "ifindex", "result", "reason")


_MEMORY = Recycled(1)  # for the columns of a chunk, side by side


class Packed:
    """Rows that no longer change. Any number of threads may read them at once."""

    __slots__ = ("_data", "_dtype", "_ends", "_length")

    def __init__(self, arrays: Columns) -> None:
        """Pack rows, at least one."""
        events = arrays.events
        self._dtype, self._length = events.dtype, len(events)
        beside = [column for _, column in arrays.beside()] + [events[name] for name in _KEYS]
        blocks = np.split(np.ascontiguousarray(events), range(BLOCK_ROWS, self._length, BLOCK_ROWS))
        compressor = zstandard.ZstdCompressor(level=_LEVEL)
        joined = _MEMORY.take(sum(column.nbytes for column in beside))
        np.concatenate([np.ascontiguousarray(column).view(np.uint8).reshape(-1) for column in beside], out=joined)
        frames = [compressor.compress(part.data) for part in (joined, *(block.view(np.uint8) for block in blocks))]
        # one piece of memory, which is freed as a whole
        self._data = b"".join(frames)
        self._ends = np.cumsum([0, *map(len, frames)], dtype=np.uint32)

    def __len__(self) -> int:
        return self._length

    def view(self) -> Columns:
        """All rows. The records are unpacked once, when a field that is not in _KEYS is read."""
        columns = self._columns()
        return assembled(cast(Events, _Fields(self, columns)), columns)

    def rows(self, rows: Selection) -> Columns:
        """Some of the rows, all columns of them."""
        return assembled(self.events(rows), {name: column[rows] for name, column in self._columns().items()})

    def events(self, rows: Selection) -> Events:
        """The records of some of the rows."""
        numbers = np.arange(self._length)[rows]
        wanted = np.flatnonzero(np.bincount(numbers // BLOCK_ROWS))
        decompressor = zstandard.ZstdDecompressor()
        found = b"".join(self._frame(1 + block, decompressor) for block in wanted.tolist())
        # the row's place in the unpacked blocks
        place = np.searchsorted(wanted, numbers // BLOCK_ROWS) * BLOCK_ROWS + numbers % BLOCK_ROWS
        unpacked = np.frombuffer(found, f"V{self._dtype.itemsize}")
        chosen = unpacked if len(place) == len(unpacked) and isinstance(rows, slice) else unpacked[place]
        return chosen.view(self._dtype)

    def _columns(self) -> Beside:
        """The columns beside the records, and those of _KEYS."""
        data, found, at = self._frame(0, zstandard.ZstdDecompressor()), {}, 0
        for name, kind in {**BESIDE, **{name: self._dtype[name] for name in _KEYS}}.items():
            found[name] = np.frombuffer(data, np.dtype((kind, self._length)), 1, at)[0]
            at += found[name].nbytes
        return found

    def _frame(self, number: int, decompressor: zstandard.ZstdDecompressor) -> bytes:
        begin, end = self._ends[number : number + 2].tolist()
        return decompressor.decompress(memoryview(self._data)[begin:end])


class _Fields:
    """Packed records. Their fields can be read as an array's, and np.asarray() makes them one."""

    __slots__ = ("_columns", "_events", "_packed")

    def __init__(self, packed: Packed, columns: Beside) -> None:
        self._packed, self._columns = packed, columns
        self._events: Events | None = None

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._columns[name] if name in _KEYS else self.__array__()[name]

    def __array__(self, _dtype: object = None, copy: object = None) -> Events:
        if self._events is None:
            self._events = self._packed.events(slice(None))
        return self._events
