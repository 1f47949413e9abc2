"""Packets waiting for their handshake's record, bounded in number: the oldest go first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import Events

Packets = NDArray[np.void]  # rows of struct packet_event

ROWS_MAX = 1 << 17  # 240 bytes each
_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd: id and first SYN's time as one number


def keys(rows: NDArray[Any]) -> NDArray[np.uint64]:
    """One number per handshake, the same for its record and its packets."""
    found: NDArray[np.uint64] = rows["id"] ^ (rows["syn_ns"] * _MIX)
    return found


class PacketCache:
    """Columns of packets in the order of arrival."""

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
        self._parts.append(packets)
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
        wanted = keys(events)
        order = np.argsort(wanted, kind="stable")
        if not self._parts or not len(events):
            return np.empty(0, self._parts[0].dtype if self._parts else np.uint8), np.empty(0, np.intp)
        held = self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)
        mine = keys(held)
        place = np.minimum(np.searchsorted(wanted, mine, sorter=order), len(order) - 1)
        record = order[place]
        found = wanted[record] == mine
        rest = held[~found]
        self._parts, self._held = ([rest] if len(rest) else []), len(rest)
        taken, record = held[found], record[found]
        in_time = np.argsort(taken["now_ns"], kind="stable")
        return taken[in_time], record[in_time]
