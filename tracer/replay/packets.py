"""Packets as they lie in memory between a capture file and the kernel programs."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import U8, Bool

Index: TypeAlias = NDArray[np.intp]
I64: TypeAlias = NDArray[np.int64]
NS_PER_S = 1_000_000_000
HEAD = 16  # bytes before a packet: seconds, nanoseconds, captured length and its word (root_part.py), u32 each
SLACK = 128  # bytes behind the last packet that may be read, whatever they are


@dataclass(frozen=True, slots=True)
class Interface:
    """What a capture says of an interface. `units`: how many parts of a second its times count."""

    name: str | None
    link: int  # LINKTYPE_ number
    snaplen: int  # 0: no limit
    units: int = 1_000_000
    offset_s: int = 0


class Memory:
    """A buffer, and the numbers that begin at any of its bytes."""

    def __init__(self, buffer: mmap.mmap | bytearray) -> None:
        self.buffer = buffer
        self.bytes: U8 = np.frombuffer(buffer, np.uint8)
        self._views: dict[str, NDArray[Any]] = {}

    def read(self, at: Index, form: str) -> I64:
        """The number of this form (numpy's: ">u2") at each place. Those beyond the end are read from the last bytes."""
        view = self._view(form)
        found: I64 = view[np.minimum(at, len(view) - 1)].astype(np.int64)
        return found

    def write(self, at: Index, numbers: NDArray[Any], form: str) -> None:
        """Write a number of this form at each place."""
        self._view(form)[at] = numbers

    def _view(self, form: str) -> NDArray[Any]:
        found = self._views.get(form)
        if found is None:
            count = len(self.bytes) - np.dtype(form).itemsize + 1
            found = self._views[form] = np.ndarray((count,), form, self.buffer, 0, (1,))
        return found


@dataclass(slots=True)
class Packets:
    """Packets of a capture. Each has HEAD bytes before its start, which need not hold its head yet.

    `times` are nanoseconds since the epoch, `originals` lengths on the wire, `places` those of their interfaces in the
    list of the capture's, `sent` says what the interface sent, None if it sent none.
    """

    memory: Memory
    starts: Index
    stops: Index
    originals: I64
    times: I64
    places: Index
    sent: Bool | None = None

    def __len__(self) -> int:
        return len(self.starts)

    def only(self, keep: Bool) -> Packets:
        """Some of them."""
        return Packets(
            self.memory, self.starts[keep], self.stops[keep], self.originals[keep], self.times[keep],
            self.places[keep], None if self.sent is None else self.sent[keep],
        )  # fmt: skip


def joined(parts: list[Packets]) -> Packets | None:
    """Packets of one memory, one part behind the other; None if there are none."""
    parts = [one for one in parts if len(one)]
    if len(parts) < 2:
        return parts[0] if parts else None
    return Packets(
        parts[0].memory,
        np.concatenate([one.starts for one in parts]),
        np.concatenate([one.stops for one in parts]),
        np.concatenate([one.originals for one in parts]),
        np.concatenate([one.times for one in parts]),
        np.concatenate([one.places for one in parts]),
        np.concatenate([one.sent if one.sent is not None else np.zeros(len(one), np.bool_) for one in parts]),
    )
