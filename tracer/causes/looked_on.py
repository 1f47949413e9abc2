"""Interfaces by which copies come in, of handshakes that go on elsewhere: mirror ports, and what a firewall duplicates.

A host that does not pass on what came in by an interface, and yet sees how it was answered there, only looks on: that
its kernel drops a SYN there has no meaning for the handshake.
"""

from __future__ import annotations

import numpy as np

from tracer.causes.peer_history import REMEMBER_NS
from tracer.handshake.batch import Batch
from tracer.handshake.events import Bool, Indexes, distinct, has
from tracer.vocabulary.vocabulary import Has, Vantage

INTERFACES_MAX = 1 << 12


class LookedOn:
    """When an answer to a SYN for others was last seen, by interface. Bounded."""

    def __init__(self) -> None:
        self._answered_ns: dict[int, int] = {}

    def note(self, batch: Batch) -> None:
        """Remember where handshakes of others are answered."""
        events = batch.events
        rows = np.flatnonzero(batch.vantage == Vantage.TRANSIT)
        rows = rows[events["egress"][rows] == 0]
        if not len(rows):
            return
        rows = rows[has(events["synack"]["has"][rows], Has.SEGMENT)]
        for ifindex in distinct(events["ifindex"][rows]).tolist():
            self._answered_ns.pop(ifindex, None)
            self._answered_ns[ifindex] = int(events["syn_ns"][rows].max())
        while len(self._answered_ns) > INTERFACES_MAX:
            del self._answered_ns[next(iter(self._answered_ns))]

    def of(self, batch: Batch, rows: Indexes) -> Bool:
        """Which of some rows are of such interfaces?"""
        found = np.zeros(len(rows), np.bool_)
        if not self._answered_ns:
            return found
        ifindex, syn_ns = batch.events["ifindex"][rows], batch.events["syn_ns"][rows]
        for index in set(ifindex.tolist()) & self._answered_ns.keys():
            found |= (ifindex == index) & (syn_ns < np.uint64(self._answered_ns[index] + REMEMBER_NS))
        found &= batch.vantage[rows] == Vantage.TRANSIT
        return found
