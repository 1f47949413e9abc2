"""Packets waiting for their handshake's record, bounded in number: the oldest go first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import Events

Packets = NDArray[np.void]  # rows of struct packet_event

ROWS_MAX = 1 << 17  # of TCP some 130 bytes each
PARTS_MAX = 64  # else what nobody takes would be looked through in many small parts
_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd: id and first SYN's time as one number


def keys(rows: NDArray[Any]) -> NDArray[np.uint64]:
    """One number per handshake, the same for its record and its packets."""
    found: NDArray[np.uint64] = rows["id"] ^ (rows["syn_ns"] * _MIX)
    return found


def narrow(packets: Packets) -> Packets:
    """A copy without what lies behind the longest frame here, which is most of each row."""
    dtype = packets.dtype
    assert dtype.fields is not None
    begin = dtype.fields["data"][1]
    width = max(4, int(packets["captured"].max()) + 3 & ~3)
    fields = {name: dtype.fields[name] for name in dtype.names or () if name != "data"}
    narrower = np.dtype({
        "names": [*fields, "data"],
        "formats": [*(field[0] for field in fields.values()), ("u1", (width,))],
        "offsets": [*(field[1] for field in fields.values()), begin],
        "itemsize": begin + width,
    })  # fmt: skip
    rows = np.ascontiguousarray(packets).view(np.uint8).reshape(len(packets), dtype.itemsize)
    found: Packets = np.ascontiguousarray(rows[:, : begin + width]).view(narrower).reshape(len(packets))
    return found


def joined(parts: Sequence[Packets]) -> Packets:
    """One array of several that narrow() made, as wide as the widest."""
    widest = max((part.dtype for part in parts), key=lambda dtype: dtype.itemsize)
    found = np.zeros((sum(map(len, parts)), widest.itemsize), np.uint8)
    done = 0
    for part in parts:
        size = part.dtype.itemsize
        found[done : done + len(part), :size] = np.ascontiguousarray(part).view(np.uint8).reshape(len(part), size)
        done += len(part)
    made: Packets = found.view(widest).reshape(done)
    return made


class PacketCache:
    """Packets in the order of arrival, in parts as they came."""

    def __init__(self, rows_max: int = ROWS_MAX) -> None:
        self._rows_max = rows_max
        self._parts: list[Packets] = []
        self._held = 0

    def __len__(self) -> int:
        return self._held

    def add(self, packets: Packets) -> None:
        """Keep packets until they are taken. If their record never comes, newer ones push them out."""
        if not len(packets):
            return
        self._parts.append(narrow(packets))
        self._held += len(packets)
        while self._held > self._rows_max:
            over = self._held - self._rows_max
            first = self._parts[0]
            gone = min(over, len(first))
            self._parts[0] = first[gone:]
            self._held -= gone
            if not len(self._parts[0]):
                del self._parts[0]

    def take(self, events: Events) -> tuple[Packets, NDArray[np.intp]]:
        """The packets of these records in order of time, and the place of each one's record."""
        if not len(events):
            return np.empty(0, np.uint8), np.empty(0, np.intp)
        wanted = keys(events)
        order = np.argsort(wanted, kind="stable")
        in_order = wanted[order]
        taken: list[Packets] = []
        records: list[NDArray[np.intp]] = []
        left: list[Packets] = []
        for part in self._parts:
            mine = keys(part)
            place = np.minimum(np.searchsorted(in_order, mine), len(order) - 1)
            found = in_order[place] == mine
            if not found.any():
                left.append(part)
                continue
            taken.append(_rows(part, found))
            records.append(order[place[found]])
            if not found.all():
                left.append(_rows(part, ~found))
        if not taken:
            return np.empty(0, np.uint8), np.empty(0, np.intp)
        self._parts = left if len(left) <= PARTS_MAX else [joined(left)]
        self._held = sum(map(len, left))
        packets, record = joined(taken), np.concatenate(records)
        in_time = np.argsort(packets["now_ns"], kind="stable")
        return _rows(packets, in_time), record[in_time]


def _rows(packets: Packets, chosen: NDArray[Any]) -> Packets:
    # as plain bytes: numpy copies a structure field by field, which is ten times slower
    found: Packets = packets.view(f"V{packets.dtype.itemsize}")[chosen].view(packets.dtype)
    return found
