"""The kernel's latest words on segments, to be joined with the records of their handshakes, which may come first.

A table of fixed size: the latest word of each kind of segment, direction and network namespace. A flood overwrites
older ones, and then a record lacks its word.
"""

from __future__ import annotations

import secrets
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import U8, U64, Bool, Events, Indexes

SLOTS = 1 << 15
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


class DropTable:
    """Words by kind of segment, sender and receiver, and whether they are of the traced namespace.

    Words without a reason, which mostly say nothing, have places of their own.
    """

    def __init__(self, netns: int, no_reason: int) -> None:
        """`netns`: inode number of the traced namespace; `no_reason`: the number of NOT_SPECIFIED."""
        self._netns, self._no_reason = netns, no_reason
        self._words = np.zeros(2 * SLOTS, _WORD)  # those of the traced namespace apart, whatever the others lose
        self._factors = np.frombuffer(secrets.token_bytes(64), np.uint64) | np.uint64(1)

    def add(self, drops: Events) -> None:
        """Note what the kernel said. What is of no known namespace, or of a copy, says too little."""
        drops = drops[(drops["netns"] != 0) & (drops["is_copy"] == 0)]
        if not len(drops):
            return
        flags = drops["tcp_flags"]
        kinds = np.select(
            [drops["is_reset"] != 0, (flags & _RST) != 0, (flags & (_SYN | _ACK)) == _SYN, (flags & _SYN) != 0],
            [Kind.SENT_RESET, Kind.RST, Kind.SYN, Kind.SYNACK],
            Kind.ACK,
        )
        owns = drops["netns"] == self._netns
        keys = self._keys(
            drops["src"], drops["dst"], drops["src_port"], drops["dst_port"], kinds, owns,
            (drops["reason"] == self._no_reason) & (drops["is_reset"] == 0),
        )  # fmt: skip
        same = self._sames(keys, kinds, drops)
        _, first, which, counts = np.unique(same, return_index=True, return_inverse=True, return_counts=True)
        _, from_end = np.unique(keys[::-1], return_index=True)
        last = len(keys) - 1 - from_end  # of several with one key the last one stays
        words = np.empty(len(last), _WORD)
        words["key"], words["same"] = keys[last], same[last]
        for name in _COPIED:
            words[name] = drops[name][last]
        words["count"], words["first_ns"] = counts[which[last]], drops["now_ns"][first[which[last]]]
        slots = _slots(words["key"], owns[last])
        before = self._words[slots]
        again = before["same"] == words["same"]
        words["count"] += np.where(again, before["count"], 0)
        words["first_ns"] = np.where(again, before["first_ns"], words["first_ns"])
        self._words[slots] = words

    def _sames(self, keys: U64, kinds: Indexes, drops: Events) -> U64:
        """Equal for the same segment sent again, and dropped for the same reason at the same place.

        A server that forgot its first answer gives another number: what a SYN-ACK acks tells.
        """
        number = np.where(kinds == Kind.SYNACK, drops["ack"], drops["seq"])
        found = keys
        parts = (number, drops["reason"], drops["location"], drops["ifindex"])
        for part, factor in zip(parts, self._factors, strict=False):
            found = (found ^ part.astype(np.uint64)) * factor
            found ^= found >> np.uint64(32)
        return found

    def find(
        self, events: Events, kind: Kind, from_client: bool, own: bool, reasonless: bool = False
    ) -> tuple[Bool, Events]:
        """For each record: is there a word of this kind on a segment that client or server sent? And the latest one,
        with the number of words on the same segment, and the time of the first of these.

        The segment's numbers are not compared. `own`: of the traced namespace.
        """
        ends = ("client", "server") if from_client else ("server", "client")
        src, dst = (events[name] for name in ends)
        src_port, dst_port = (events[f"{name}_port"] for name in ends)
        kinds, owns = np.full(len(events), int(kind)), np.full(len(events), own)
        keys = self._keys(src, dst, src_port, dst_port, kinds, owns, np.full(len(events), reasonless))
        words = self._words[_slots(keys, owns)]
        return words["key"] == keys, words

    def _keys(
        self, src: U8, dst: U8, src_port: NDArray[np.uint16], dst_port: NDArray[np.uint16], kind: Indexes, own: Bool,
        reasonless: Bool,
    ) -> U64:  # fmt: skip
        factors = self._factors
        ports = src_port.astype(np.uint64) << np.uint64(16) | dst_port
        parts = (*_halves(src), *_halves(dst), ports, (kind * 4 + own * 2 + reasonless + 1).astype(np.uint64))
        key = np.zeros(len(ports), np.uint64)
        for part, factor in zip(parts, factors[:6], strict=True):
            key = (key ^ part) * factor
            key ^= key >> np.uint64(32)
        return key | np.uint64(1)  # 0 is an empty slot


def _halves(addresses: U8) -> tuple[U64, U64]:
    words = np.ascontiguousarray(addresses).view(np.uint64)
    return words[:, 0], words[:, 1]


def _slots(keys: U64, own: Bool) -> Indexes:
    slots: Indexes = ((keys >> np.uint64(32)).astype(np.intp) & (SLOTS - 1)) + own * SLOTS
    return slots
