"""Interfaces by which copies come in, of handshakes that go on elsewhere: mirror ports, and what a firewall duplicates.

A host that does not pass on what came in by an interface, and yet sees how it was answered there, only looks on: that
its kernel drops a SYN there has no meaning for the handshake.
"""

from __future__ import annotations

import numpy as np

from tracer.causes.peer_history import REMEMBER_NS
from tracer.handshake.batch import Batch
from tracer.handshake.events import Bool, has
from tracer.vocabulary.vocabulary import Has, Vantage

INTERFACES_MAX = 1 << 12


class LookedOn:
    """When an answer to a SYN for others was last seen, by interface. Bounded."""

    def __init__(self) -> None:
        self._answered_ns: dict[int, int] = {}

    def note(self, batch: Batch) -> None:
        """Remember where handshakes of others are answered."""
        events = batch.events
        passes = (batch.vantage == Vantage.TRANSIT) & (events["egress"] == 0)
        if not passes.any():
            return
        rows = np.flatnonzero(passes & has(events["synack"]["has"], Has.SEGMENT))
        for ifindex in np.unique(events["ifindex"][rows]).tolist():
            self._answered_ns.pop(ifindex, None)
            self._answered_ns[ifindex] = int(events["syn_ns"][rows].max())
        while len(self._answered_ns) > INTERFACES_MAX:
            del self._answered_ns[next(iter(self._answered_ns))]

    def of(self, batch: Batch) -> Bool:
        """Which rows are of such interfaces?"""
        events = batch.events
        seen = [index for index in np.unique(events["ifindex"]).tolist() if index in self._answered_ns]
        found = np.zeros(len(batch), np.bool_)
        for ifindex in seen:
            until_ns = np.uint64(self._answered_ns[ifindex] + REMEMBER_NS)
            found |= (events["ifindex"] == ifindex) & (events["syn_ns"] < until_ns)
        found &= batch.vantage == Vantage.TRANSIT
        return found
