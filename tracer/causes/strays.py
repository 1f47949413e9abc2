"""SYN-ACKs that the kernel found no socket for, and reset: by what they ack, they answer a SYN all the same.

A SYN whose server is translated on the way in, and not on the way out, is answered by an address that the client never
asked. Its kernel resets that answer, and the client's record has no answer at all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tracer.causes.slot_table import WordHash
from tracer.handshake.batch import Batch
from tracer.handshake.events import U8, U32, U64, Bool, Events, Indexes, pick
from tracer.vocabulary.vocabulary import CauseAt, Confidence, HandshakeCause, HandshakeResult, SettleReason, Vantage

SLOTS = 1 << 12
_SYN, _ACK = 2, 16
_AT_CLIENT = Vantage.CLIENT  # the bit that CLIENT and LOCAL share


class StrayAnswers:
    """The latest ones, by receiver and the number that they ack."""

    def __init__(self, netns: int, no_socket: int) -> None:
        """`netns`: inode number of the traced namespace; `no_socket`: number of NO_SOCKET, -1 if it is not known."""
        self._netns, self._no_socket = netns, no_socket
        self._hash = WordHash(3)
        self._shift = np.uint64(64 - (SLOTS.bit_length() - 1))
        self._keys, self._when_ns = np.zeros(SLOTS, np.uint64), np.zeros(SLOTS, np.uint64)
        self._senders = np.zeros(SLOTS, np.uint64)
        self._any = False

    def add(self, drops: Events) -> None:
        """Note what the kernel said."""
        some = pick(drops, np.flatnonzero(drops["reason"] == self._no_socket))
        stray = (some["netns"] == self._netns) & (some["is_reset"] == 0)
        stray &= (some["tcp_flags"] & (_SYN | _ACK)) == _SYN | _ACK
        if stray.any():
            some = pick(some, np.flatnonzero(stray))
            keys = self._keys_of(some["dst"], some["dst_port"], some["ack"])
            slots = self._slots(keys)
            self._keys[slots], self._when_ns[slots] = keys, some["now_ns"]
            self._senders[slots] = self._end(some["src"], some["src_port"])
            self._any = True

    def blame(self, batch: Batch) -> None:
        """Give the cause to rows of this host's clients that got no answer, and have none that is as sure."""
        if not self._any:
            return
        events, causes = batch.events, batch.causes
        silent = (events["result"] == HandshakeResult.NO_REPLY) & (events["reason"] == SettleReason.BY_TIMEOUT)
        silent &= (batch.vantage & _AT_CLIENT) != 0
        rows = np.flatnonzero(silent & (causes.handshake_confidence < Confidence.LIKELY))
        if len(rows):
            rows = rows[self._answered(pick(events, rows))]
            causes.handshake_cause[rows] = HandshakeCause.NAT_ONE_WAY
            causes.handshake_confidence[rows] = Confidence.LIKELY
            causes.cause_at[rows] = CauseAt.NONE
            causes.listener[rows] = 0

    def _answered(self, events: Events) -> Bool:
        """Was the SYN answered by another address?"""
        keys = self._keys_of(events["client"], events["client_port"], events["syn"]["seq"] + np.uint32(1))
        slots = self._slots(keys)
        when_ns = self._when_ns[slots]
        found: Bool = (self._keys[slots] == keys) & (when_ns > events["syn_ns"]) & (when_ns < events["settled_ns"])
        # the asked one's own answer comes too late for a client that has left, and may come by a way that is not traced
        found &= self._senders[slots] != self._end(events["server"], events["server_port"])
        return found

    def _keys_of(self, addresses: U8, ports: NDArray[np.uint16], acks: U32) -> U64:
        return self._hash_of(addresses, acks.astype(np.uint64) << np.uint64(16) | ports) | np.uint64(1)

    def _end(self, addresses: U8, ports: NDArray[np.uint16]) -> U64:
        return self._hash_of(addresses, ports.astype(np.uint64))

    def _hash_of(self, addresses: U8, rest: U64) -> U64:
        words = np.ascontiguousarray(addresses).view(np.uint64)
        return self._hash.of(words[:, 0], words[:, 1], rest)

    def _slots(self, keys: U64) -> Indexes:
        slots: Indexes = (keys >> self._shift).astype(np.intp)
        return slots
