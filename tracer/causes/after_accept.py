"""Connections that died after their SYN data was taken, and what shows that the path to their server is the reason.

A middlebox may let the SYN and its data pass and break what follows. One such death may have any reason. A second one
with the same server is telling once a connection to it that took no data out of the SYN has lived, unless one that did
has lived since; but not a reset from as far away as the SYN-ACK, which is the server's own, as of a program that ends
with connections in its queue. At a server's own host nothing is said: it knows its resets, and packets that it sees did
arrive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracer.causes.attempts import HOPS, Keys
from tracer.causes.notes import Earlier, Notes
from tracer.causes.peer_history import PAIRS, REMEMBER_NS
from tracer.causes.slot_table import SlotTable
from tracer.handshake.batch import Batch
from tracer.handshake.events import U64, Bool, Indexes, pick
from tracer.handshake.life import died
from tracer.vocabulary.vocabulary import After, Group, Outcome, ResetFrom, Vantage

_HOUR = np.uint64(REMEMBER_NS)
_AT_SERVER = Vantage.SERVER  # the bit that SERVER and LOCAL share
_IS_TAKEN = np.zeros(len(Outcome), np.bool_)
_IS_TAKEN[[Outcome.DATA_ACKED, Outcome.DATA_ACKED_NEW_COOKIE, Outcome.DATA_PARTLY_ACKED]] = True


@dataclass(frozen=True, slots=True)
class _Seen:
    """Some rows of a batch, in their order. Keys stand for client, server and port, at an interface."""

    rows: Indexes
    keys: U64
    syn_ns: U64


def _died(batch: Batch, rows: Indexes) -> Indexes:
    """Those of some rows that the server reset, or whose request was repeated in vain."""
    quiet = rows[batch.verdicts.after[rows] != After.RESPONSE]
    return died(batch.events, quiet, batch.verdicts.lived)


def _reset_by_itself(batch: Batch, rows: Indexes) -> Bool:
    """Did the server itself reset these, by how far away the reset came from?"""
    events = pick(batch.events, rows)
    same = HOPS[events["reset_ttl"]] == HOPS[events["synack"]["ttl"]]
    found: Bool = (events["reset_from"] == ResetFrom.SERVER) & same
    return found


class AfterAccept:
    """Takes handshakes in the order of settling; how they come in batches makes no difference."""

    def __init__(self) -> None:
        self._served = SlotTable(PAIRS, "when_ns")  # connections that lived without data taken out of the SYN
        self._broken = SlotTable(PAIRS, "when_ns")  # those that died after it was, unless one that did not came since
        self._any_broke = False
        self._died_plainly = Notes(PAIRS, "when_ns")  # connections that died though no data was taken out of the SYN

    def died(self, batch: Batch, keys: Keys) -> tuple[Indexes, Bool]:
        """The rows of connections that died after their data was taken; is the path the likely reason?"""

        def seen_of(rows: Indexes) -> _Seen:
            return _Seen(rows, keys.pairs_by_port[rows], batch.events["syn_ns"][rows])

        verdicts = batch.verdicts
        away = (batch.vantage & _AT_SERVER) == 0
        # the first SYN-ACK decides the outcome, but the client may have taken another host's
        taken = _IS_TAKEN.take(verdicts.outcome) & (verdicts.acked_payload_len != 0)
        lived = away & verdicts.lived
        broke = np.flatnonzero(away & taken & (verdicts.group == Group.FAILED))
        # of one that was reset the server may have acked what followed: the path passes it
        in_vain = ~lived[broke] & ~_reset_by_itself(batch, broke)
        self._any_broke |= bool(in_vain.any())
        plain = verdicts.acked_payload_len == 0
        served = seen_of(np.flatnonzero(lived & plain))
        plainly = seen_of(_died(batch, np.flatnonzero(away & plain)))
        likely = np.zeros(len(broke), np.bool_)
        if self._any_broke:
            worked, dead = np.flatnonzero(lived & taken), broke[in_vain]
            again = self._broke_again(seen_of(np.concatenate((worked, dead))), len(worked))
            seen = seen_of(dead)
            likely[in_vain] = again & self._was_served(seen, served) & ~self._died_without(seen, plainly)
        slots, own = self._served.claim(served.keys)
        self._served["when_ns"][slots[own]] = served.syn_ns[own]
        if len(plainly.rows):
            self._died_plainly.add(plainly.keys, plainly.syn_ns)
        return broke, likely

    def _died_without(self, broke: _Seen, plainly: _Seen) -> Bool:
        """Did a connection of the same key die before without data in its SYN? Then Fast Open does not break it."""
        earlier = Earlier(plainly.keys, plainly.rows, broke.keys)
        known, (when_ns,) = self._died_plainly.past(earlier, (plainly.syn_ns,), broke.keys, broke.rows)
        found: Bool = known & (broke.syn_ns < when_ns + _HOUR)
        return found

    def _was_served(self, broke: _Seen, served: _Seen) -> Bool:
        """Has a connection of the same key been served before?"""
        slots, known = self._served.find(broke.keys)
        found: Bool = known & (broke.syn_ns < self._served["when_ns"][slots] + _HOUR)
        keys, first = np.unique(served.keys, return_index=True)
        if len(keys):
            at = np.minimum(np.searchsorted(keys, broke.keys), len(keys) - 1)
            found |= (keys[at] == broke.keys) & (served.rows[first[at]] < broke.rows)
        return found

    def _broke_again(self, seen: _Seen, worked: int) -> Bool:
        """Note connections whose data was taken; the first `worked` lived. Which others died like the one before?

        That is the last one of the same key, in this batch or before.
        """
        broke_ns = seen.syn_ns.copy()
        broke_ns[:worked] = 0
        order = np.lexsort((seen.rows, seen.keys))
        keys = seen.keys[order]
        same = np.flatnonzero(keys[1:] == keys[:-1])
        slots, known = self._broken.find(seen.keys)
        before = np.where(known, self._broken["when_ns"][slots], np.uint64(0))
        before[order[same + 1]] = broke_ns[order[same]]
        is_last = np.ones(len(order), np.bool_)
        is_last[same] = False
        last = order[is_last]
        last = last[known[last] | (broke_ns[last] != 0)]  # only who died needs a place
        slots, own = self._broken.claim(seen.keys[last])
        self._broken["when_ns"][slots[own]] = broke_ns[last][own]
        again: Bool = ((before != 0) & (seen.syn_ns < before + _HOUR))[worked:]
        return again
