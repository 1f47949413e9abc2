"""The columns of some handshakes: the kernel's records, and what we found out about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.causes import DTYPES, Causes
from tracer.handshake.durations import Durations
from tracer.handshake.events import U8, Events, Selection, together
from tracer.handshake.outcome import Verdicts
from tracer.handshake.recycled import Recycled

Beside = dict[str, NDArray[Any]]
VERDICTS, DURATIONS, CAUSES = (tuple(one.name for one in fields(kind)) for kind in (Verdicts, Durations, Causes))
OTHERS = ("vantage", "offset_ns", "payload", "client_owner", "server_owner")
BESIDE: dict[str, np.dtype[Any]] = {
    **{f"verdicts.{name}": np.dtype(np.uint8) for name in ("request", "outcome", "group")},
    "verdicts.attempted": np.dtype(np.bool_),
    "verdicts.acked_payload_len": np.dtype(np.uint32),
    "verdicts.answered_after_us": np.dtype(np.float64),
    "verdicts.answered_syn": np.dtype(np.uint8),
    "verdicts.after": np.dtype(np.uint8),
    "verdicts.lived": np.dtype(np.bool_),
    **{f"durations.{name}": np.dtype(np.float64) for name in DURATIONS},
    **{f"causes.{name}": DTYPES[name] for name in CAUSES},
    "vantage": np.dtype(np.uint8),
    "offset_ns": np.dtype(np.int64),
    "payload": np.dtype(np.uint16),
    "client_owner": np.dtype(np.uint32),
    "server_owner": np.dtype(np.uint32),
}


_MEMORY = Recycled(1)  # for a chunk that is filled: mostly the one before it has been packed by then


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns side by side. Of a packed chunk `events` has fields and a length only: np.asarray() unpacks it."""

    events: Events
    verdicts: Verdicts
    durations: Durations
    causes: Causes
    vantage: U8
    offset_ns: NDArray[np.int64]  # CLOCK_REALTIME - CLOCK_MONOTONIC when the row was written
    payload: NDArray[np.uint16]  # indexes into tables of the chunk, like the owners
    client_owner: NDArray[np.uint32]
    server_owner: NDArray[np.uint32]

    @classmethod
    def empty(cls, rows: int, dtype: np.dtype[Any]) -> Columns:
        """Room for that many rows in one block of memory, which is used again when they are gone."""
        sizes = [rows * dtype.itemsize, *(rows * kind.itemsize for kind in BESIDE.values())]
        ends = np.cumsum([-(-size // 64) * 64 for size in sizes]).tolist()
        block = _MEMORY.take(ends[-1])
        starts = zip(BESIDE.items(), ends, strict=False)
        beside = {name: block[start : start + rows * kind.itemsize].view(kind) for (name, kind), start in starts}
        return assembled(block[: sizes[0]].view(dtype), beside)

    def __len__(self) -> int:
        return len(self.events)

    def rows(self, rows: Selection) -> Columns:
        """Some rows; a slice makes no copies."""
        return assembled(self.events[rows], {name: column[rows] for name, column in self.beside()})

    def beside(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """All columns except the events, by name."""
        yield from self.judged()
        for name in OTHERS:
            yield name, getattr(self, name)

    def judged(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """The columns that came with the batch, by name: `verdicts.outcome`."""
        for name in VERDICTS:
            yield f"verdicts.{name}", getattr(self.verdicts, name)
        for name in DURATIONS:
            yield f"durations.{name}", getattr(self.durations, name)
        for name in CAUSES:
            yield f"causes.{name}", getattr(self.causes, name)


def assembled(events: Events, beside: Beside) -> Columns:
    return Columns(
        events,
        Verdicts(*(beside[f"verdicts.{name}"] for name in VERDICTS)),
        Durations(*(beside[f"durations.{name}"] for name in DURATIONS)),
        Causes(*(beside[f"causes.{name}"] for name in CAUSES)),
        *(beside[name] for name in OTHERS),
    )


def joined(pieces: Sequence[Columns]) -> Columns:
    """Rows one behind the other; at least one piece."""
    if len(pieces) == 1:
        return pieces[0]
    events = together([one.events for one in pieces])
    beside = [dict(one.beside()) for one in pieces]
    return assembled(events, {name: np.concatenate([one[name] for one in beside]) for name in beside[0]})
