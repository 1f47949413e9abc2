"""Handshakes that nobody answered, or whose ACK never came. Where answers are not seen, silence is no evidence."""

from __future__ import annotations

import numpy as np

from tracer.causes.asked import Asked
from tracer.causes.notes import Earlier, Notes
from tracer.causes.peer_history import REMEMBER_NS
from tracer.causes.server_memory import Noted, ServerMemory
from tracer.handshake.events import U64, Bool, Indexes, distinct
from tracer.vocabulary.vocabulary import Confidence, HandshakeCause, HandshakeResult, SettleReason

SERVICES = 1 << 14
SEVERAL = 10  # so many handshakes do not all lack their ACKs by chance
_HOUR = np.uint64(REMEMBER_NS)


class UnseenAnswers:
    """Services whose answers take a path that is not traced, and interfaces that show no answers at all."""

    def __init__(self) -> None:
        self._services = Notes(SERVICES, "when_ns")
        self._one_way_at: set[int] = set()
        self._answers_at: set[int] = set()

    def note(self, noted: Noted) -> None:
        """Remember a batch."""
        if len(noted.answered):
            self._answers_at |= noted.interfaces(noted.answered)
        rows = noted.one_way
        if len(rows):
            self._services.add(noted.services[rows], noted.syn_ns[rows])
            self._one_way_at |= noted.interfaces(rows)

    def of(self, noted: Noted, rows: Indexes) -> Bool:
        """May these have been answered unseen, by what came before each?"""
        events, one_way = noted.batch.events, noted.one_way
        if not len(one_way) and not self._one_way_at:
            return np.zeros(len(rows), np.bool_)
        syn_ns = noted.syn_ns
        keys, theirs = noted.services[rows], noted.services[one_way]
        known, (when,) = self._services.past(Earlier(theirs, one_way, keys), (syn_ns[one_way],), keys, rows)
        found = known & (syn_ns[rows] < when + _HOUR)
        ifindex = events["ifindex"].astype(np.uint64)
        blind = _before(ifindex, rows, one_way, self._one_way_at)
        blind &= ~_before(ifindex, rows, noted.answered, self._answers_at)
        return found | blind


class UnseenAcks:
    """Interfaces that may show no ACKs at all: a filter may let through what has the flag SYN only.

    A server that misses the ACK sends its SYN-ACK again, unless that is a SYN cookie.
    """

    def __init__(self) -> None:
        self._acks_at: set[int] = set()
        self._lone_at: dict[int, int] = {}  # half-open handshakes that alone say that there was no ACK

    def note(self, noted: Noted) -> None:
        """Remember a batch."""
        if len(noted.acked):
            self._acks_at |= noted.interfaces(noted.acked)
        rows = _lone(noted)
        if len(rows):
            numbers, counts = np.unique(noted.batch.events["ifindex"][rows], return_counts=True)
            for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
                self._lone_at[number] = self._lone_at.get(number, 0) + count

    def of(self, noted: Noted, rows: Indexes) -> Bool:
        """May the ACKs of these half-open handshakes have come unseen, by what came before each?"""
        events = noted.batch.events
        lone = np.isin(rows, _lone(noted))
        if not lone.any():
            return lone
        return lone & ~_before(events["ifindex"].astype(np.uint64), rows, noted.acked, self._acks_at)

    def often(self, noted: Noted, rows: Indexes) -> Bool:
        """The same where there were several of them before."""
        found = self.of(noted, rows)
        at = np.flatnonzero(found)
        if not len(at):
            return found
        events = noted.batch.events
        lone = _lone(noted)
        for number in distinct(events["ifindex"][rows[at]]).tolist():
            mine = at[events["ifindex"][rows[at]] == number]
            earlier = np.searchsorted(lone[events["ifindex"][lone] == number], rows[mine])
            found[mine] = self._lone_at.get(number, 0) + earlier >= SEVERAL
        return found


def _lone(noted: Noted) -> Indexes:
    events, rows = noted.batch.events, noted.half_open
    found: Indexes = rows[events["synack_count"][rows] <= events["syn_count"][rows]]
    return found


def judge_silence(
    asked: Asked, noted: Noted, servers: ServerMemory, unseen: UnseenAnswers, unseen_acks: UnseenAcks
) -> None:  # fmt: skip
    """Give causes to rows of which the last segment that is awaited never came."""
    by_timeout = asked.events["reason"] == SettleReason.BY_TIMEOUT
    if not by_timeout.any():
        return
    half_open = asked.is_result(HandshakeResult.HALF_OPEN) & by_timeout & ~asked.has_cause
    half_open &= ~asked.whether(half_open, lambda rows: unseen_acks.often(noted, rows))
    asked.blame(half_open, HandshakeCause.ACK_MISSING, Confidence.POSSIBLE)
    silent = asked.is_result(HandshakeResult.NO_REPLY) & by_timeout & ~asked.at_server & ~asked.has_cause
    # something came: an ICMP error that does not fit, a challenge ACK, or the failure that this record follows
    came = asked.events["misfit_icmps"] | asked.events["challenge_acks"] | asked.events["resumed"]
    silent &= came == 0
    silent &= ~asked.whether(silent, lambda rows: unseen.of(noted, rows))
    others = asked.whether(silent, lambda rows: servers.answered(noted, rows))
    asked.blame(silent & others, HandshakeCause.PACKET_LOSS, Confidence.POSSIBLE)
    asked.blame(silent, HandshakeCause.FILTERED_OR_DOWN, Confidence.POSSIBLE)


def _before(ifindex: U64, rows: Indexes, noted: Indexes, known: set[int]) -> Bool:
    """Was the interface of each row noted before it, in this batch or earlier?"""
    _, there = Earlier(ifindex[noted], noted, ifindex[rows]).before(ifindex[rows], rows)
    return there | np.isin(ifindex[rows], list(known))
