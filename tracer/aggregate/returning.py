"""Clients for which Fast Open worked with a server before: where it breaks for them without a failure, that shows it.

A client whose cookie is lost on the way goes on without Fast Open, and sends no SYN with data that could fail.
"""

from __future__ import annotations

import numpy as np

from tracer.aggregate.tally import HAS_FAILED
from tracer.causes.attempts import PeerHash
from tracer.causes.notes import Earlier
from tracer.causes.peer_history import REMEMBER_NS
from tracer.causes.slot_table import SlotTable
from tracer.handshake.batch import Batch
from tracer.handshake.events import Bool
from tracer.handshake.shared_slots import SharedSlots

PAIRS = 1 << 14
_BITS = 16  # of a key: different ones of a batch seldom share them
_HOUR = np.uint64(REMEMBER_NS)


class Returning:
    """Takes batches in the order of settling; how many handshakes each has makes no difference. Its memory is bounded:
    the latest of clients and services that need the same place is remembered."""

    def __init__(self) -> None:
        self._hash = PeerHash()
        self._worked = SlotTable(PAIRS, "when_ns")  # client, server and its port, at an interface
        self._shared = SharedSlots(1 << _BITS)
        self._any = False

    def of(self, batch: Batch, worked: Bool) -> Bool:
        """Which rows are of a client for which Fast Open worked with the same service, in a row before, within an hour
        of its SYN? `worked` says for which it works now.

        A handshake that failed without data in its SYN says nothing of Fast Open: it is left out.
        """
        some = bool(worked.any())
        if not some and not self._any:
            return np.zeros(len(batch), np.bool_)
        self._any = True
        events = batch.events
        keys, when = self._hash.keys(events).pairs_by_port, np.ascontiguousarray(events["syn_ns"])
        slots, known = self._worked.find(keys)
        before_ns = np.where(known, self._worked["when_ns"][slots], np.uint64(0))
        # most come once in a batch, and need not look for rows before theirs
        rows = np.flatnonzero(self._shared.of((keys >> np.uint64(64 - _BITS)).astype(np.intp)))
        new = rows[worked[rows]]
        at, is_there = Earlier(keys[new], new, keys[rows]).before(keys[rows], rows)
        known[rows[is_there]], before_ns[rows[is_there]] = True, when[new[at[is_there]]]
        if some:
            slots, own = self._worked.claim(keys[worked])
            self._worked["when_ns"][slots[own]] = when[worked][own]
        found: Bool = known & (when < before_ns + _HOUR)
        found &= ~HAS_FAILED[events["result"]] | (events["syn"]["payload_len"] != 0)
        return found
