"""What servers have answered so far: from how far away, and whether to SYNs that asked for ECN. Bounded."""

from __future__ import annotations

import numpy as np

from tracer.causes.attempts import PeerHash
from tracer.causes.peer_history import REMEMBER_NS, SERVERS
from tracer.causes.slot_table import SlotTable
from tracer.dissect import signature
from tracer.handshake.batch import Batch
from tracer.handshake.ecn import asks_for_ecn
from tracer.handshake.events import U8, U64, Bool, Events, has
from tracer.vocabulary.vocabulary import Has

_HOUR = np.uint64(REMEMBER_NS)
HOPS = np.array([signature.hops(ttl) for ttl in range(256)], np.uint8)


class ServerMemory:
    """By server, port and interface, from the client's side of it. Takes handshakes in the order of settling."""

    def __init__(self, hashes: PeerHash) -> None:
        self._hash = hashes
        self._servers = SlotTable(
            SERVERS, "answered_ns", "near", "far", "plain_ns", "ecn_ns", "ecn_lost_ns"
        )  # near, far: fewest and most hops seen, + 1

    def note(self, batch: Batch) -> None:
        """Remember who answered."""
        events = batch.events
        rows = np.flatnonzero(has(events["synack"]["has"], Has.SEGMENT) & (events["misfit_synacks"] == 0))
        if not len(rows):
            return
        keys = self._keys(events)[rows]
        slots, own = self._servers.claim(keys)
        slots, rows = slots[own], rows[own]
        servers, when = self._servers, events["syn_ns"][rows]
        hops = (HOPS[events["synack"]["ttl"][rows]] + 1).astype(np.uint64)
        np.maximum.at(servers["answered_ns"], slots, when)
        near = servers["near"]
        near[slots] = np.where(near[slots] == 0, hops, near[slots])
        np.minimum.at(near, slots, hops)
        np.maximum.at(servers["far"], slots, hops)
        number = batch.verdicts.answered_syn[rows]
        ecn = asks_for_ecn(events["syn"]["tcp_flags"][rows])
        np.maximum.at(servers["ecn_ns"], slots, when * (ecn & (number == 1)))
        np.maximum.at(servers["plain_ns"], slots, when * ~ecn)

    def _keys(self, events: Events) -> U64:
        return self._hash.listeners_at(events)

    def answered(self, events: Events) -> Bool:
        """Has this server answered anybody within the hour?"""
        return self._within_the_hour(events, "answered_ns")

    def answered_plain(self, events: Events) -> Bool:
        """Has it answered a SYN that did not ask for ECN?"""
        return self._within_the_hour(events, "plain_ns")

    def answered_ecn(self, events: Events) -> Bool:
        """Has it answered the first SYN of a handshake that asked for ECN?"""
        return self._within_the_hour(events, "ecn_ns")

    def lost_ecn(self, events: Events) -> Bool:
        """Note handshakes that got through only without ECN; was there one before?"""
        before = self._within_the_hour(events, "ecn_lost_ns")
        slots, own = self._servers.claim(self._keys(events))
        np.maximum.at(self._servers["ecn_lost_ns"], slots[own], events["syn_ns"][own])
        return before

    def distance_fits(self, events: Events, ttl: U8) -> tuple[Bool, Bool]:
        """Is the distance of this server known, and does a segment of this TTL come from there?"""
        slots, found = self._servers.find(self._keys(events))
        near, far = self._servers["near"][slots], self._servers["far"][slots]
        hops = HOPS[ttl].astype(np.uint64) + 1
        known: Bool = found & (near != 0)
        return known, known & (near <= hops) & (hops <= far)

    def _within_the_hour(self, events: Events, column: str) -> Bool:
        slots, known = self._servers.find(self._keys(events))
        when = self._servers[column][slots]
        found: Bool = known & (when != 0) & (events["syn_ns"] < when + _HOUR)
        return found
