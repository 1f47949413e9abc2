"""From how many hops away servers have answered, where that led to something, within the hour.

A segment from elsewhere is strange only at a service that had one distance all the time: routes change, some addresses
have several, and another port of the same address may be forwarded to another host.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracer.causes.notes import Earlier, Notes, likely_among
from tracer.causes.peer_history import REMEMBER_NS, SERVERS
from tracer.causes.slot_table import NumberHash, SlotTable
from tracer.handshake.events import U8, U64, Bool, Indexes, some_rows

_HOUR = np.uint64(REMEMBER_NS)
_SOME = np.uint64(1)


@dataclass(frozen=True, slots=True)
class Answers:
    """SYN-ACKs of a batch that led to something, by row in their order: keys of the service and of the address."""

    rows: Indexes
    services: U64
    places: U64
    hops: U8
    syn_ns: U64

    def of(self, services: U64) -> Answers:
        """Those of some services, and few others."""
        return some_rows(self, likely_among(self.services, services))


class Distances:
    """Each row sees the notes of the rows before it, however they come in batches."""

    def __init__(self) -> None:
        self._services = SlotTable(SERVERS, "when_ns", "hops", "changed_ns")  # the latest; hops + 1
        self._places = Notes(SERVERS, "when_ns")  # by address and distance
        self._by_hops = NumberHash()

    def note(self, new: Answers) -> None:
        """Remember these."""
        if not len(new.rows):
            return
        table = self._services
        slots, own = table.claim(new.services)
        if not ((table["hops"][slots] == new.hops + _SOME) & own).all():
            changed = self._changes(new)
            slots, changed = slots[own], changed[own]
            table["changed_ns"][slots[changed]] = new.syn_ns[own][changed]
            table["hops"][slots] = new.hops[own] + _SOME
        table["when_ns"][slots] = new.syn_ns if len(slots) == len(new.rows) else new.syn_ns[own]
        self._places.add(self._near(new.places, new.hops), new.syn_ns)

    def compare(
        self, new: Answers, services: U64, places: U64, hops: U8, rows: Indexes, syn_ns: U64
    ) -> tuple[Bool, Bool]:  # fmt: skip
        """Do segments come from a distance that is known of their address, or from a strange one?

        `new` has the notes of this batch, which note() takes afterwards.
        """
        near = self._near(places, hops)
        there = Earlier(self._near(new.places, new.hops), new.rows, near)
        known, (when,) = self._places.past(there, (new.syn_ns,), near, rows)
        fits = known & (syn_ns < when + _HOUR)
        slots, found = self._services.find(services)
        latest, last_ns = (np.where(found, self._services[name][slots], np.uint64(0)) for name in ("hops", "when_ns"))
        new = new.of(services)
        at, is_there = Earlier(new.services, new.rows, services).before(services, rows)
        latest[is_there], last_ns[is_there] = new.hops[at[is_there]] + _SOME, new.syn_ns[at[is_there]]
        strange = (last_ns != 0) & (syn_ns < last_ns + _HOUR) & ~fits & (latest != hops + _SOME)
        if not strange.any():
            return fits, strange
        changed_ns = np.where(found, self._services["changed_ns"][slots], np.uint64(0))
        changed = some_rows(new, np.flatnonzero(self._changes(new)))
        at, is_there = Earlier(changed.services, changed.rows, services).before(services, rows)
        changed_ns[is_there] = changed.syn_ns[at[is_there]]
        several = (changed_ns != 0) & (syn_ns < changed_ns + _HOUR)
        return fits, strange & ~several

    def _near(self, places: U64, hops: U8) -> U64:
        return places + self._by_hops.of(hops.astype(np.uint64))

    def _changes(self, new: Answers) -> Bool:
        """Which answers came from elsewhere than the one before of their service, within the hour?"""
        order = np.lexsort((new.rows, new.services))
        keys, hops, when = new.services[order], new.hops[order] + _SOME, new.syn_ns[order]
        slots, found = self._services.find(keys)
        before = np.where(found, self._services["hops"][slots], np.uint64(0))
        before_ns = np.where(found, self._services["when_ns"][slots], np.uint64(0))
        same = np.flatnonzero(keys[1:] == keys[:-1]) + 1
        before[same], before_ns[same] = hops[same - 1], when[same - 1]
        changed = np.zeros(len(order), np.bool_)
        changed[order] = (before != 0) & (before != hops) & (when < before_ns + _HOUR)
        return changed
