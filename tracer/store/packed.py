"""The columns of rows that the store holds: as arrays while a chunk fills up, packed when it is full.

A record is 352 bytes of which most say what the row before says: packed, a handshake takes about 80 with all that was
found out about it. The records are packed a few hundred at a time, so that one is had without the others; beside them
stand the columns that lists are sorted and filtered by most, each chunk's together. All values come back as they were,
durations rounded to the nanosecond, as records have them.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import zstandard
from numpy.typing import NDArray

from tracer.handshake.causes import Causes
from tracer.handshake.columns import BESIDE, CAUSES, DURATIONS, VERDICTS, Arrays, Beside, Selection, assembled
from tracer.handshake.durations import Durations
from tracer.handshake.events import F64, NS_PER_US, U8, Events
from tracer.handshake.outcome import Verdicts

BLOCK_ROWS = 256
_LEVEL = -1  # of zstd: the quickest that finds nearly all of what repeats
# fields of the records that are had without unpacking these
_KEYS = ("syn_ns", "client", "server", "client_port", "server_port", "ifindex", "result", "reason", "syn.has",
         "syn.payload_len")  # fmt: skip
_SEGMENTS = frozenset({"syn", "synack"})


def _field(events: Events, path: str) -> NDArray[Any]:
    found: NDArray[Any] = events
    for name in path.split("."):
        found = found[name]
    return found


class Packed:
    """Rows that will not change any more. Columns are unpacked by whoever asks: any number of threads may."""

    __slots__ = ("_data", "_dtype", "_ends", "_key_dtypes", "_length", "_ns")

    def __init__(self, arrays: Arrays) -> None:
        """Pack them; not none."""
        self._dtype = arrays.events.dtype
        self._length = len(arrays)
        keys = [np.ascontiguousarray(_field(arrays.events, path)) for path in _KEYS]
        self._key_dtypes = tuple(np.dtype((key.dtype, key.shape[1:])) for key in keys)
        self._ns = _ns_kind(arrays.durations)
        beside = [_in_ns(column, self._ns) if name.startswith("durations.") else column
                  for name, column in arrays.beside()]  # fmt: skip
        blocks = np.split(arrays.events, range(BLOCK_ROWS, self._length, BLOCK_ROWS))
        compressor = zstandard.ZstdCompressor(level=_LEVEL)
        frames = [
            compressor.compress(b"".join(column.tobytes() for column in columns))
            for columns in (beside, keys, *([block] for block in blocks))
        ]
        # one piece of memory that goes as a whole
        self._data = b"".join(frames)
        self._ends = np.cumsum([0, *map(len, frames)], dtype=np.uint32)

    def __len__(self) -> int:
        return self._length

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return len(self._data) + self._ends.nbytes

    def view(self) -> Unpacking:
        """All rows; what is asked for is unpacked then."""
        return Unpacking(self)

    def rows(self, rows: Selection) -> Arrays:
        """Some of the rows, all columns of them."""
        beside = {name: column[rows] for name, column in self.beside().items()}
        return assembled(self.events(rows), beside)

    def events(self, rows: Selection) -> Events:
        """The records of some of the rows."""
        numbers = np.arange(self._length)[rows]
        wanted = np.flatnonzero(np.bincount(numbers // BLOCK_ROWS))
        decompressor = zstandard.ZstdDecompressor()
        found = b"".join(self._frame(2 + block, decompressor) for block in wanted.tolist())
        # where the block of each row is among those found
        place = np.searchsorted(wanted, numbers // BLOCK_ROWS) * BLOCK_ROWS + numbers % BLOCK_ROWS
        unpacked = np.frombuffer(found, f"V{self._dtype.itemsize}")
        chosen = unpacked if len(place) == len(unpacked) and isinstance(rows, slice) else unpacked[place]
        return chosen.view(self._dtype)

    def beside(self) -> Beside:
        """All columns but the records."""
        kinds = {name: self._ns if name.startswith("durations.") else kind for name, kind in BESIDE.items()}
        found = self._columns(0, kinds)
        for name in kinds:
            if name.startswith("durations."):
                found[name] = _in_us(found[name])
        return found

    def keys(self) -> Beside:
        """The fields of the records that are had without unpacking them."""
        return self._columns(1, dict(zip(_KEYS, self._key_dtypes, strict=True)))

    def _columns(self, number: int, kinds: dict[str, np.dtype[Any]]) -> Beside:
        data, found, at = self._frame(number, zstandard.ZstdDecompressor()), {}, 0
        for name, kind in kinds.items():
            base, inner = kind.subdtype or (kind, ())
            count = self._length * kind.itemsize // base.itemsize
            found[name] = np.frombuffer(data, base, count, at).reshape(self._length, *inner)
            at += self._length * kind.itemsize
        return found

    def _frame(self, number: int, decompressor: zstandard.ZstdDecompressor) -> bytes:
        begin, end = self._ends[number : number + 2].tolist()
        return decompressor.decompress(memoryview(self._data)[begin:end])


class Unpacking:
    """The columns of packed rows, each kind unpacked once while this lasts."""

    __slots__ = ("_beside", "_events", "_keys", "_packed")

    def __init__(self, packed: Packed) -> None:
        self._packed = packed
        self._beside: Beside | None = None
        self._keys: Beside | None = None
        self._events: Events | None = None

    def __len__(self) -> int:
        return len(self._packed)

    def arrays(self) -> Arrays:
        """All of it at once."""
        return assembled(self._whole(), self._judged())

    def _whole(self) -> Events:
        if self._events is None:
            self._events = self._packed.events(slice(None))
        return self._events

    def _judged(self) -> Beside:
        if self._beside is None:
            self._beside = self._packed.beside()
        return self._beside

    def field(self, path: str) -> NDArray[Any]:
        """A field of the records."""
        if path not in _KEYS:
            return _field(self._whole(), path)
        if self._keys is None:
            self._keys = self._packed.keys()
        return self._keys[path]

    @property
    def events(self) -> Events:
        """Their fields by name, as an array of them has them."""
        return cast(Events, _Fields(self, ""))

    @property
    def verdicts(self) -> Verdicts:
        """As judged when they were written."""
        beside = self._judged()
        return Verdicts(*(beside[f"verdicts.{name}"] for name in VERDICTS))

    @property
    def durations(self) -> Durations:
        """To the nanosecond."""
        beside = self._judged()
        return Durations(*(beside[f"durations.{name}"] for name in DURATIONS))

    @property
    def causes(self) -> Causes:
        """As judged when they were written."""
        beside = self._judged()
        return Causes(*(beside[f"causes.{name}"] for name in CAUSES))

    @property
    def vantage(self) -> U8:
        """As in Arrays, likewise below."""
        return self._judged()["vantage"]

    @property
    def offset_ns(self) -> NDArray[np.int64]:
        """As in Arrays."""
        return self._judged()["offset_ns"]

    @property
    def payload(self) -> NDArray[np.uint16]:
        """As in Arrays."""
        return self._judged()["payload"]

    @property
    def client_owner(self) -> NDArray[np.uint32]:
        """As in Arrays."""
        return self._judged()["client_owner"]

    @property
    def server_owner(self) -> NDArray[np.uint32]:
        """As in Arrays."""
        return self._judged()["server_owner"]


class _Fields:
    """Looks like a structured array to who asks for its fields."""

    __slots__ = ("_columns", "_prefix")

    def __init__(self, columns: Unpacking, prefix: str) -> None:
        self._columns, self._prefix = columns, prefix

    def __len__(self) -> int:
        return len(self._columns)

    def __getitem__(self, name: str) -> Any:
        if not self._prefix and name in _SEGMENTS:
            return _Fields(self._columns, f"{name}.")
        return self._columns.field(self._prefix + name)


# nanoseconds: 4 bytes reach 4.29 s; what is not known is a value that no duration has
_NS_SHORT: np.dtype[Any] = np.dtype(np.uint32)
_NS_LONG: np.dtype[Any] = np.dtype(np.int64)
_UNKNOWN_NS = {_NS_SHORT: np.iinfo(np.uint32).max, _NS_LONG: np.iinfo(np.int64).min}


def _ns_kind(durations: Durations) -> np.dtype[Any]:
    """What takes the durations of all columns."""
    least, most = 0.0, 0.0
    for name in DURATIONS:
        column = getattr(durations, name)
        # of NaN only there is neither
        least, most = np.fmin(least, np.fmin.reduce(column)), np.fmax(most, np.fmax.reduce(column))
    return _NS_SHORT if least >= 0 and (most + 1) * NS_PER_US < _UNKNOWN_NS[_NS_SHORT] else _NS_LONG


def _in_ns(durations_us: F64, kind: np.dtype[Any]) -> NDArray[Any]:
    unknown = np.isnan(durations_us)
    found: NDArray[Any] = np.rint(np.where(unknown, 0.0, durations_us) * NS_PER_US).astype(kind)
    found[unknown] = _UNKNOWN_NS[kind]
    return found


def _in_us(ns: NDArray[Any]) -> F64:
    return np.where(ns == _UNKNOWN_NS[ns.dtype], np.nan, ns / NS_PER_US)
