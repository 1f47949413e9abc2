"""The kernel's latest words on segments, to be joined with the records of their handshakes, which may come first.

A table of fixed size: the latest word of each kind of segment, direction and network namespace. A flood overwrites
older ones, and then a record lacks its word.
"""

from __future__ import annotations

import secrets
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import U8, U64, Bool, Events, Indexes, pick, together
from tracer.handshake.shared_slots import SharedSlots

SLOTS, OTHERS = 1 << 15, 1 << 14  # of the traced namespace, and of all others
_SYN, _RST, _ACK = 2, 4, 16
_WORD = np.dtype(
    [("key", "<u8"), ("same", "<u8"), ("now_ns", "<u8"), ("first_ns", "<u8"), ("location", "<u8"), ("seq", "<u4"),
     ("ack", "<u4"), ("reason", "<u4"), ("netns", "<u4"), ("ifindex", "<u4"), ("count", "<u4")]
)  # fmt: skip
_COPIED = ("now_ns", "location", "seq", "ack", "reason", "netns", "ifindex")


class Kind(IntEnum):
    """What the kernel spoke of."""

    SYN = 0
    SYNACK = 1
    ACK = 2
    RST = 3
    SENT_RESET = 4  # it did not drop a segment, but sent one


_BYTES = np.dtype(f"V{_WORD.itemsize}")  # numpy copies a structure field by field, which is many times slower
_FLAGS = 31
_KINDS = np.array(
    [Kind.RST if flags & _RST else
     (Kind.SYNACK if flags & _ACK else Kind.SYN) if flags & _SYN else Kind.ACK for flags in range(_FLAGS + 1)], np.intp
)  # fmt: skip


class Senders(NamedTuple):
    """Hashes of records' flows, by who sent the segment."""

    client: U64
    server: U64

    def some(self, rows: Indexes) -> Senders:
        """Those of some rows."""
        return Senders(self.client[rows], self.server[rows])


class DropTable:
    """Words by kind of segment, sender and receiver, and whether they are of the traced namespace.

    Words without a reason, which mostly say nothing, have places of their own.
    """

    def __init__(self, netns: int, no_reason: int) -> None:
        """`netns`: inode number of the traced namespace; `no_reason`: the number of NOT_SPECIFIED."""
        self._netns, self._no_reason = netns, no_reason
        self._words = np.zeros(SLOTS + OTHERS, _WORD)  # those of the traced namespace apart, whatever the others lose
        self._shared = SharedSlots(len(self._words))
        self._there = np.zeros(len(Kind) * 4, np.bool_)  # by _sort_of(): was any word of this sort noted?
        self._factors = np.frombuffer(secrets.token_bytes(64), np.uint64) | np.uint64(1)

    def add(self, drops: Events) -> None:
        """Note what the kernel said. What is of no known namespace, or of a copy, says too little."""
        telling = (drops["netns"] != 0) & (drops["is_copy"] == 0)
        if not telling.all():
            drops = pick(drops, np.flatnonzero(telling))
        if not len(drops):
            return
        is_reset = drops["is_reset"] != 0
        kinds = np.where(is_reset, Kind.SENT_RESET, _KINDS[drops["tcp_flags"] & _FLAGS])
        owns = drops["netns"] == self._netns
        reasonless = (drops["reason"] == self._no_reason) & ~is_reset
        sorts = kinds * 4 + owns * 2 + reasonless
        self._there[sorts] = True
        keys = self._keys(self._flows(drops["src"], drops["dst"], drops["src_port"], drops["dst_port"]), sorts)
        same, slots = self._sames(keys, kinds, drops), _slots(keys, owns)
        words = np.empty(len(keys), _WORD)
        words["key"], words["same"], words["count"], words["first_ns"] = keys, same, 1, drops["now_ns"]
        for name in _COPIED:
            words[name] = drops[name]
        shared = self._shared.of(slots)
        if shared.any():
            words, slots = _merged(words, slots, shared)
        again = np.flatnonzero(self._words["same"][slots] == words["same"])
        if len(again):
            before = pick(self._words, slots[again])
            words["count"][again] += before["count"]
            words["first_ns"][again] = before["first_ns"]
        self._words.view(_BYTES)[slots] = words.view(_BYTES)

    def _sames(self, keys: U64, kinds: Indexes, drops: Events) -> U64:
        """Equal for the same segment sent again, and dropped for the same reason at the same place.

        A server that forgot its first answer gives another number: what a SYN-ACK acks tells.
        """
        number = np.where(kinds == Kind.SYNACK, drops["ack"], drops["seq"])
        found = keys
        parts = (number, drops["reason"], drops["location"], drops["ifindex"])
        for part, factor in zip(parts, self._factors, strict=False):
            found = _mixed(found, part.astype(np.uint64), factor)
        return found

    def senders(self, events: Events) -> Senders:
        """Hash the flows of these records, for find()."""
        client, server = events["client"], events["server"]
        client_port, server_port = events["client_port"], events["server_port"]
        return Senders(
            self._flows(client, server, client_port, server_port), self._flows(server, client, server_port, client_port)
        )

    def has(self, kind: Kind, own: bool, reasonless: bool = False) -> bool:
        """Was there any such word?"""
        return bool(self._there[_sort_of(kind, own, reasonless)])

    def find(self, flows: U64, kind: Kind, own: bool, reasonless: bool = False) -> tuple[Indexes, Events]:
        """Which of these senders' flows have a word of this kind on a segment? And the latest one of each, with the
        number of words on the same segment, and the time of the first of these.

        The segment's numbers are not compared. `own`: of the traced namespace.
        """
        keys = self._keys(flows, np.uint64(_sort_of(kind, own, reasonless)))
        slots = _slots(keys, own)
        rows: Indexes = np.flatnonzero(self._words["key"][slots] == keys)
        return rows, pick(self._words, slots[rows])

    def _flows(self, src: U8, dst: U8, src_port: NDArray[np.uint16], dst_port: NDArray[np.uint16]) -> U64:
        ports = src_port.astype(np.uint64) << np.uint64(16) | dst_port
        found = np.zeros(len(ports), np.uint64)
        for part, factor in zip((*_halves(src), *_halves(dst), ports), self._factors[:5], strict=True):
            found = _mixed(found, part, factor)
        return found

    def _keys(self, flows: U64, sorts: Indexes | np.uint64) -> U64:
        parts = np.asarray(sorts, np.uint64) + np.uint64(1)
        return _mixed(flows, parts, self._factors[5]) | np.uint64(1)  # 0 is an empty slot


def _merged(words: Events, slots: Indexes, shared: Bool) -> tuple[Events, Indexes]:
    """Of several words with one key the last one stays, and counts those on the same segment."""
    alone, others = np.flatnonzero(~shared), np.flatnonzero(shared)
    some = pick(words, others)
    _, first, which, counts = np.unique(some["same"], return_index=True, return_inverse=True, return_counts=True)
    some["count"], some["first_ns"] = counts[which], some["now_ns"][first[which]]
    _, from_end = np.unique(some["key"][::-1], return_index=True)
    last = len(some) - 1 - from_end
    found = together((pick(words, alone), pick(some, last)))
    return found, np.concatenate((slots[alone], slots[others[last]]))


def _halves(addresses: U8) -> tuple[U64, U64]:
    words = np.ascontiguousarray(addresses).view(np.uint64)
    return words[:, 0], words[:, 1]


def _mixed(hashes: U64, part: U64, factor: np.uint64) -> U64:
    found: U64 = (hashes ^ part) * factor
    found ^= found >> np.uint64(32)
    return found


def _sort_of(kind: Kind, own: bool, reasonless: bool) -> int:
    return kind * 4 + own * 2 + reasonless


def _slots(keys: U64, own: Bool | bool) -> Indexes:
    places = (keys >> np.uint64(32)).astype(np.intp)
    slots: Indexes = np.where(own, places & (SLOTS - 1), SLOTS + (places & (OTHERS - 1)))
    return slots
