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
    [("key", "<u8"), ("now_ns", "<u8"), ("location", "<u8"), ("seq", "<u4"), ("ack", "<u4"), ("reason", "<u4"),
     ("netns", "<u4"), ("count", "<u4")]
)  # fmt: skip
_COPIED = [name for name in _WORD.names or () if name not in ("key", "count")]


class Kind(IntEnum):
    """What the kernel spoke of."""

    SYN = 0
    SYNACK = 1
    ACK = 2
    RST = 3
    SENT_RESET = 4  # it did not drop a segment, but sent one


class DropTable:
    """Words by kind of segment, sender and receiver, and whether they are of the traced namespace."""

    def __init__(self, netns: int) -> None:
        """`netns`: inode number of the traced namespace."""
        self._netns = netns
        self._words = np.zeros(SLOTS, _WORD)
        self._factors = np.frombuffer(secrets.token_bytes(64), np.uint64) | np.uint64(1)

    def add(self, drops: Events) -> None:
        """Note what the kernel said. What is of no known namespace says too little."""
        drops = drops[drops["netns"] != 0]
        if not len(drops):
            return
        flags = drops["tcp_flags"]
        kinds = np.select(
            [drops["is_reset"] != 0, (flags & _RST) != 0, (flags & (_SYN | _ACK)) == _SYN, (flags & _SYN) != 0],
            [Kind.SENT_RESET, Kind.RST, Kind.SYN, Kind.SYNACK],
            Kind.ACK,
        )
        keys = self._keys(
            drops["src"], drops["dst"], drops["src_port"], drops["dst_port"], kinds, drops["netns"] == self._netns
        )
        words = np.empty(len(drops), _WORD)
        words["key"] = keys
        for name in _COPIED:
            words[name] = drops[name]
        # of several with one key the last one stays, and has their number
        _, last, counts = np.unique(keys[::-1], return_index=True, return_counts=True)
        words = words[len(keys) - 1 - last]
        words["count"] = counts
        slots = _slots(words["key"])
        before = self._words[slots]
        # the same SYN again, or another answer to it
        again = (before["seq"] == words["seq"]) | ((before["ack"] == words["ack"]) & (words["ack"] != 0))
        words["count"] += np.where((before["key"] == words["key"]) & again, before["count"], 0)
        self._words[slots] = words

    def find(self, events: Events, kind: Kind, from_client: bool, own: bool) -> tuple[Bool, Events]:
        """For each record: is there a word of this kind on a segment that client or server sent? And the latest one,
        with the number of such words.

        The segment's numbers are not compared. `own`: of the traced namespace.
        """
        ends = ("client", "server") if from_client else ("server", "client")
        src, dst = (events[name] for name in ends)
        src_port, dst_port = (events[f"{name}_port"] for name in ends)
        kinds, owns = np.full(len(events), int(kind)), np.full(len(events), own)
        keys = self._keys(src, dst, src_port, dst_port, kinds, owns)
        words = self._words[_slots(keys)]
        return words["key"] == keys, words

    def _keys(
        self, src: U8, dst: U8, src_port: NDArray[np.uint16], dst_port: NDArray[np.uint16], kind: Indexes, own: Bool
    ) -> U64:
        factors = self._factors
        ports = src_port.astype(np.uint64) << np.uint64(16) | dst_port
        parts = (*_halves(src), *_halves(dst), ports, (kind * 2 + own + 1).astype(np.uint64))
        key = np.zeros(len(ports), np.uint64)
        for part, factor in zip(parts, factors[:6], strict=True):
            key = (key ^ part) * factor
            key ^= key >> np.uint64(32)
        return key | np.uint64(1)  # 0 is an empty slot


def _halves(addresses: U8) -> tuple[U64, U64]:
    words = np.ascontiguousarray(addresses).view(np.uint64)
    return words[:, 0], words[:, 1]


def _slots(keys: U64) -> Indexes:
    slots: Indexes = (keys >> np.uint64(32)).astype(np.intp) & (SLOTS - 1)
    return slots
