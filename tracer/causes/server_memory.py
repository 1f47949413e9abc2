"""What servers did so far: answered and responded or not, from how far away, and to SYNs that asked for ECN. Bounded.

Takes batches in the order of settling. Each row sees the notes of the rows before it, however they come in batches.
All keys are at an interface: a router sees each handshake at two, from other distances.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracer.causes.attempts import HOPS, Keys
from tracer.causes.distances import Answers, Distances
from tracer.causes.notes import Earlier, Notes
from tracer.causes.peer_history import REMEMBER_NS, SERVERS
from tracer.causes.slot_table import SlotTable
from tracer.handshake.batch import Batch
from tracer.handshake.ecn import ECN_FLAGS, answered_ecn, asks_for_ecn
from tracer.handshake.events import U8, U64, Bool, Events, Indexes, distinct, has, pick
from tracer.vocabulary.vocabulary import ANSWERED_ECN_WORDS, After, HandshakeResult, Has, ResetFrom

_HOUR = np.uint64(REMEMBER_NS)
_NO_ECN = ANSWERED_ECN_WORDS.index("none")
_WORKED = np.zeros(len(After), np.bool_)  # the distance of a box on the path is not the server's
_WORKED[[After.RESPONSE, After.CLOSED_UNUSED, After.CLIENT_CLOSED, After.SERVER_CLOSED]] = True
_LEFT = np.zeros(len(After), np.bool_)
_LEFT[[After.CLIENT_CLOSED, After.RESET_BY_CLIENT]] = True


@dataclass(frozen=True, slots=True)
class Noted:
    """What a batch tells of servers: rows of each kind, and keys of all rows."""

    batch: Batch
    keys: Keys
    syn_ns: U64
    answered: Indexes
    answers: Answers  # those of which the SYN-ACK's distance is the server's
    responded: Indexes
    plain: Indexes  # whose SYN without ECN was taken
    with_ecn: Indexes  # likewise with it
    refused: Indexes  # by a reset, without ECN
    acked: Indexes  # whose ACK was seen
    quiet: Indexes  # whose client left with nothing but acks
    one_way: Indexes
    half_open: Indexes

    @property
    def places(self) -> U64:
        """Keys of the server's address."""
        return self.keys.places

    @property
    def services(self) -> U64:
        """Keys of its address and port."""
        return self.keys.services

    def interfaces(self, rows: Indexes) -> set[int]:
        """At which they were seen."""
        column = self.batch.events["ifindex"][rows]
        lowest = int(column.min())
        return {lowest} if lowest == int(column.max()) else set(distinct(column).tolist())


class ServerMemory:
    """From the client's side of servers."""

    def __init__(self) -> None:
        self._services = SlotTable(SERVERS, "answered_ns", "plain_ns", "responded_ns")
        self._places = SlotTable(SERVERS, "ecn_ns")
        self._distances = Distances()
        self._quiet = Notes(SERVERS, "when_ns")  # services that took data and did not answer it
        self._refused = Notes(SERVERS, "when_ns")  # services that refused a SYN without ECN
        # services of which something eats SYNs with ECN, or resets them, as it seems
        self._ecn_lost, self._ecn_refused = Notes(SERVERS, "when_ns"), Notes(SERVERS, "when_ns")
        self._ecn_proven = Notes(SERVERS, "when_ns")  # a plain one was taken between two of them

    def begin(self, batch: Batch, keys: Keys) -> Noted:
        """Look at a batch; note() remembers it once it is judged."""
        events, verdicts = batch.events, batch.verdicts
        synack = has(events["synack"]["has"], Has.SEGMENT)
        answered = np.flatnonzero(synack & (events["misfit_synacks"] == 0))
        worked = answered[_WORKED.take(verdicts.after[answered]) & (events["synack_isns"][answered] <= 1)]
        hops = HOPS.take(events["synack"]["ttl"][worked])
        syn_ns = np.ascontiguousarray(events["syn_ns"])
        answers = Answers(worked, keys.services[worked], keys.places[worked], hops, syn_ns[worked])
        asked = asks_for_ecn(events["syn"]["tcp_flags"])
        plain, with_ecn = answered, np.zeros(0, np.intp)
        if asked.any():
            plain = answered[~asked[answered]]
            rows = np.flatnonzero(asked & synack)
            several = pick(events, rows)
            taken = answered_ecn(several, presumed_answer(several, verdicts.answered_syn[rows]))
            granted = (several["synack"]["tcp_flags"] & ECN_FLAGS) != 0
            with_ecn = rows[(taken > _NO_ECN) | granted]
            plain = distinct(np.concatenate((plain, rows[(taken == _NO_ECN) & ~granted])))
        result = np.ascontiguousarray(events["result"])
        refused = np.flatnonzero((result == HandshakeResult.REJECTED) & ~asked)
        refused = refused[events["reset_from"][refused] == ResetFrom.SERVER]
        return Noted(
            batch, keys, syn_ns, answered, answers, np.flatnonzero(events["response_ns"]), plain, with_ecn, refused,
            np.flatnonzero(events["ack_ns"]), _quiet(batch), np.flatnonzero(events["one_way"]),
            np.flatnonzero(result == HandshakeResult.HALF_OPEN),
        )  # fmt: skip

    def note(self, noted: Noted) -> None:
        """Remember who did what."""
        when = noted.syn_ns
        # usually the same rows are of each of these kinds
        kinds = [(noted.answered, "answered_ns"), (noted.plain, "plain_ns"), (noted.responded, "responded_ns")]
        alike = [name for rows, name in kinds if np.array_equal(rows, noted.answered)]
        _set(self._services, noted.services, noted.answered, when, *alike)
        for rows, name in kinds:
            if name not in alike:
                _set(self._services, noted.services, rows, when, name)
        _set(self._places, noted.places, noted.with_ecn, when, "ecn_ns")
        self._distances.note(noted.answers)
        if len(noted.quiet):
            self._quiet.add(noted.services[noted.quiet], when[noted.quiet])
        if len(noted.refused):
            self._refused.add(noted.services[noted.refused], when[noted.refused])

    # --- questions, each of some rows of a batch that is not yet noted ---

    def answered(self, noted: Noted, rows: Indexes) -> Bool:
        """Has this server answered anybody within the hour?"""
        return self._within_hour(noted, rows, "answered_ns", noted.answered)[0]

    def responds(self, noted: Noted, rows: Indexes) -> Bool:
        """Has it sent data to anybody?"""
        return self._within_hour(noted, rows, "responded_ns", noted.responded)[0]

    def _plain(self, noted: Noted, rows: Indexes) -> tuple[Bool, Bool, U64]:
        """Has it taken SYNs without ECN and refused none since, has it refused the last, when did it take one?"""
        taken, taken_ns = self._within_hour(noted, rows, "plain_ns", noted.plain)
        when = noted.syn_ns
        keys, theirs = noted.services[rows], noted.services[noted.refused]
        known, (refused_ns,) = self._refused.past(
            Earlier(theirs, noted.refused, keys), (when[noted.refused],), keys, rows
        )
        closed = known & (refused_ns > taken_ns)
        return taken & ~closed, closed, taken_ns

    def passes_ecn(self, noted: Noted, rows: Indexes) -> Bool:
        """Has this address answered a SYN that asked for ECN, at any port?"""
        keys, theirs = noted.places[rows], noted.places[noted.with_ecn]
        return self._recent(self._places, "ecn_ns", keys, theirs, noted, noted.with_ecn, rows)[0]

    def lost_ecn(self, noted: Noted, rows: Indexes) -> Bool:
        """Note handshakes that lost a SYN with ECN, as it seems, in their order; was there one before each?"""
        return self._again(self._ecn_lost, noted, rows, np.ones(len(rows), np.bool_))[0]

    def refused_ecn(self, noted: Noted, rows: Indexes) -> tuple[Bool, Bool]:
        """Note handshakes with ECN that were refused: are plain ones taken, and was a plain one between two of them?

        A service that was stopped refuses all of them.
        """
        taken, closed, taken_ns = self._plain(noted, rows)
        before, before_ns = self._again(self._ecn_refused, noted, rows, ~closed)
        between = np.flatnonzero(before & (before_ns < taken_ns))
        keys, when = noted.services[rows], noted.syn_ns[rows]
        earlier = Earlier(keys[between], rows[between], keys)
        known, (proven_ns,) = self._ecn_proven.past(earlier, (when[between],), keys, rows)
        again = known & (when < proven_ns + _HOUR)
        again[between] = True
        if len(between):
            self._ecn_proven.add(keys[between], when[between])
        return taken, taken & again

    def _again(self, notes: Notes, noted: Noted, rows: Indexes, chosen: Bool) -> tuple[Bool, U64]:
        """Was one of a chosen row noted before each, and when? Note those of these rows."""
        keys, when = noted.services[rows], noted.syn_ns[rows]
        new, new_ns = keys[chosen], when[chosen]
        known, (before_ns,) = notes.past(Earlier(new, rows[chosen], keys), (new_ns,), keys, rows)
        if len(new):
            notes.add(new, new_ns)
        return known & (when < before_ns + _HOUR), before_ns

    def distance(self, noted: Noted, rows: Indexes, ttl: U8) -> tuple[Bool, Bool]:
        """Does a segment of this TTL come from where this address has answered from, or from a strange place?"""
        syn_ns = noted.syn_ns[rows]
        return self._distances.compare(
            noted.answers, noted.services[rows], noted.places[rows], HOPS.take(ttl), rows, syn_ns
        )

    def is_one_nearer(self, noted: Noted, rows: Indexes) -> Bool:
        """Does a strange reset come from exactly one hop before the server?"""
        events = noted.batch.events
        nearer = np.where(events["reset_ttl"][rows] > 1, events["reset_ttl"][rows] - 1, 1).astype(np.uint8)
        return self.distance(noted, rows, nearer)[0]

    def is_one_way(self, noted: Noted, rows: Indexes) -> Bool:
        """Has it taken data of others before and never answered any?"""
        keys, theirs, when = noted.services[rows], noted.services[noted.quiet], noted.syn_ns
        known, (quiet_ns,) = self._quiet.past(Earlier(theirs, noted.quiet, keys), (when[noted.quiet],), keys, rows)
        return known & (when[rows] < quiet_ns + _HOUR) & ~self.responds(noted, rows)

    def _within_hour(self, noted: Noted, rows: Indexes, name: str, there: Indexes) -> tuple[Bool, U64]:
        keys, theirs = noted.services[rows], noted.services[there]
        return self._recent(self._services, name, keys, theirs, noted, there, rows)

    def _recent(
        self, table: SlotTable, name: str, keys: U64, theirs: U64, noted: Noted, there: Indexes, rows: Indexes
    ) -> tuple[Bool, U64]:  # fmt: skip
        """Was each key noted within the hour before its row, and when last?"""
        syn_ns = noted.syn_ns
        slots, known = table.find(keys)
        when: U64 = np.where(known, table[name][slots], np.uint64(0))
        at, is_there = Earlier(theirs, there, keys).before(keys, rows)
        when[is_there] = syn_ns[there[at[is_there]]]
        recent: Bool = (when != 0) & (syn_ns[rows] < when + _HOUR)
        return recent, when * recent


def _quiet(batch: Batch) -> Indexes:
    """Rows of clients that closed or reset after their data was acked, and nothing else came back."""
    rows = np.flatnonzero(_LEFT.take(batch.verdicts.after))
    if not len(rows):
        return rows
    taken = (batch.events["request_acked"][rows] != 0) | (batch.verdicts.acked_payload_len[rows] != 0)
    found: Indexes = rows[taken]
    return found


def _set(table: SlotTable, keys: U64, rows: Indexes, when: U64, *names: str) -> None:
    if not len(rows):
        return
    if len(rows) == len(keys):
        slots, own = table.claim(keys)
    else:
        slots, own, when = *table.claim(keys[rows]), when[rows]
    if not own.all():
        slots, when = slots[own], when[own]
    for name in names:
        table[name][slots] = when


def syns_before_answer(events: Events) -> Bool:
    """Which retransmissions came before the SYN-ACK, a column each?"""
    after_ns = events["retx"]["after_us"].astype(np.uint64) * np.uint64(1000)
    there = np.arange(after_ns.shape[1])[None, :] < events["retx_count"][:, None]
    found: Bool = there & (after_ns < (events["synack_ns"] - events["syn_ns"])[:, None])
    return found


def presumed_answer(events: Events, answered_syn: U8) -> U8:
    """Which SYN was answered: where timestamps do not tell, the last one, if the SYN-ACK grants no ECN; 0 = unknown."""
    unknown = np.flatnonzero(answered_syn == 0)
    if not len(unknown):
        return answered_syn
    found, some = answered_syn.copy(), pick(events, unknown)
    last = syns_before_answer(some).sum(axis=1) + 1
    grants = (some["synack"]["tcp_flags"] & ECN_FLAGS) != 0
    found[unknown] = last * ~grants
    return found
