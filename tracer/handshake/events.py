"""The types of what comes from the kernel, for code that works on records but not on rings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from tracer.vocabulary.vocabulary import Has

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# structured arrays of struct handshake_event (bpf/event.h); the dtype comes from tracer/ipc/layout.py
Events: TypeAlias = NDArray[np.void]
U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
Indexes = NDArray[np.intp]  # of rows, or slots of tables
Selection = slice | NDArray[np.intp]  # some rows: by a slice, without copies, or by number
C = TypeVar("C", bound="DataclassInstance")

NS_PER_US = 1000.0


def pick(events: Events, rows: NDArray[np.intp]) -> Events:
    """Some of the records, copied as bytes: numpy itself copies field by field, which is many times slower."""
    if not events.flags.c_contiguous:
        return events[rows]
    found: Events = events.view(f"V{events.dtype.itemsize}")[rows].view(events.dtype)
    return found


def together(parts: Sequence[Events]) -> Events:
    """Batches as one, copied as bytes. There is at least one, and they have one dtype."""
    if len(parts) == 1:
        return parts[0]
    dtype = parts[0].dtype
    whole = np.concatenate([np.ascontiguousarray(one).view(f"V{dtype.itemsize}") for one in parts])
    return whole.view(dtype)


def distinct(column: NDArray[Any]) -> NDArray[Any]:
    """The values of a column, ascending. np.unique() takes ten times as long by its hashes, and imports numpy.ma."""
    ordered = np.sort(column)
    return ordered[np.append(ordered[1:] != ordered[:-1], np.True_)] if len(ordered) else ordered


@cache
def among(values: tuple[int, ...]) -> Bool:
    """`among(values).take(column)`: which bytes are one of these? On a batch np.isin takes ten times as long.

    `values` are constants of the program: their tables stay, and are shared.
    """
    found = np.zeros(256, np.bool_)
    found[list(values)] = True
    found.flags.writeable = False
    return found


def some_rows(columns: C, rows: Selection) -> C:
    """Some rows of a dataclass of columns."""
    return type(columns)(*(getattr(columns, one.name)[rows] for one in fields(columns)))


def is_replayed(events: Events) -> bool:
    """Were these rows made from records? Then their option bytes are just their names."""
    return "row" in (events.dtype.names or ())


def has(column: NDArray[np.uint16], flag: Has) -> Bool:
    """Rows whose segment has `flag`."""
    present: Bool = (column & int(flag)) != 0
    return present


def byte_rows(array: U8) -> list[bytes]:
    """[n, m] bytes as n bytes objects."""
    found: list[bytes] = np.ascontiguousarray(array).view(f"V{array.shape[1]}").reshape(-1).tolist()
    return found


def nullable(column: F64) -> list[float | None]:
    """NaN as None; a tenth of a nanosecond is more than any clock here tells."""
    rounded = np.round(column, 3)
    values: list[float | None] = rounded.tolist()
    for row in np.flatnonzero(np.isnan(column)).tolist():
        values[row] = None
    return values
