"""Handshakes whose fate has to be explained (TFO.md section 8), and what all who explain it look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tracer.causes.attempts import HOPS
from tracer.causes.case import Case
from tracer.causes.listeners import Listeners, Listening
from tracer.handshake.batch import Batch
from tracer.handshake.events import U8, Bool, Events, Indexes, among, has, pick
from tracer.records.life import REPEATS_THAT_FAIL
from tracer.vocabulary.vocabulary import (
    After,
    CauseAt,
    Confidence,
    HandshakeCause,
    HandshakeResult,
    Has,
    ResetFrom,
    SettleReason,
    Vantage,
)

_AT_SERVER = Vantage.SERVER  # the bit that SERVER and LOCAL share
_FAILED = np.zeros(len(HandshakeResult), np.bool_)
_FAILED[[
    HandshakeResult.REJECTED, HandshakeResult.ABORTED, HandshakeResult.UNREACHABLE, HandshakeResult.NO_REPLY,
    HandshakeResult.HALF_OPEN, HandshakeResult.SYN_ON_ESTABLISHED,
]] = True  # fmt: skip
_NOT_SERVED = np.zeros(len(After), np.bool_)
_NOT_SERVED[[
    After.RESET_BY_SERVER, After.RESET_BY_CLIENT, After.CLIENT_CLOSED, After.SYNACK_AGAIN, After.SILENCE
]] = True  # fmt: skip

_IN_VAIN = np.zeros(len(After), np.bool_)
_IN_VAIN[[After.RESET_BY_CLIENT, After.CLIENT_CLOSED, After.SYNACK_AGAIN, After.SILENCE]] = True


def to_explain(batch: Batch) -> Indexes:
    """Rows that failed, took a retransmission, or were not served.

    The run's end and a client that tries anew explain themselves, unless something came that does not fit; half-open
    ones may belong to a flood.
    """
    events = batch.events
    asked = _FAILED.take(events["result"]) | _NOT_SERVED.take(batch.verdicts.after)
    asked |= (events["syn_count"] > 1) | (events["synack_count"] > 1)
    rows = np.flatnonzero(asked)
    if not len(rows):
        return rows
    reason, misfits = events["reason"][rows], events["misfit_rsts"][rows] | events["misfit_synacks"][rows]
    ended = (reason == SettleReason.AT_END) | (reason == SettleReason.BY_NEW_SYN)
    result = events["result"][rows]
    told = ((misfits != 0) & (result == HandshakeResult.NO_REPLY)) | (result == HandshakeResult.HALF_OPEN)
    found: Indexes = rows[~ended | told]
    return found


def refused_here(batch: Batch, rows: Indexes) -> Indexes:
    """Those of them that this host reset."""
    events = batch.events
    by_server = (events["result"][rows] == HandshakeResult.REJECTED) & (events["reset_from"][rows] == ResetFrom.SERVER)
    found: Indexes = rows[at_server(batch, rows) & by_server]
    return found


def at_server(batch: Batch, rows: Indexes) -> Bool:
    """Is the server this host?"""
    found: Bool = (batch.vantage[rows] & _AT_SERVER) != 0
    return found


@dataclass(frozen=True, slots=True)
class Asked:
    """Rows to explain and what all rules look at."""

    case: Case
    rows: Indexes
    events: Events
    result: U8
    after: U8
    at_server: Bool
    answered: Bool
    listening: Listening

    @classmethod
    def of(cls, case: Case, rows: Indexes, listeners: Listeners) -> Asked:
        events = pick(case.batch.events, rows)
        return cls(
            case, rows, events, events["result"], case.batch.verdicts.after[rows], at_server(case.batch, rows),
            has(events["synack"]["has"], Has.SEGMENT), listeners.of(case.keys.listeners[rows], events["syn_ns"]),
        )  # fmt: skip

    def blame(self, which: Bool, cause: HandshakeCause, confidence: Confidence, at: CauseAt = CauseAt.NONE) -> None:
        """Give a cause to those rows that have none yet."""
        self.case.blame(self.rows[which], cause, confidence, at)

    def is_result(self, *results: HandshakeResult) -> Bool:
        found: Bool = among(results).take(self.result)
        return found

    def where(self, which: Bool, question: Callable[[Indexes, Indexes], tuple[Bool, Bool]]) -> tuple[Bool, Bool]:
        """Two answers for the chosen rows, False for all others; `question` gets their rows and their places here."""
        at = np.flatnonzero(which)
        first, second = np.zeros(len(which), np.bool_), np.zeros(len(which), np.bool_)
        if len(at):
            first[at], second[at] = question(self.rows[at], at)
        return first, second

    def whether(self, which: Bool, question: Callable[[Indexes], Bool]) -> Bool:
        """One answer."""
        return self.where(which, lambda rows, _: (question(rows),) * 2)[0]

    @property
    def not_served(self) -> Bool:
        """Was it established, and not answered?"""
        return _NOT_SERVED.take(self.after)

    @property
    def sent(self) -> Bool:
        """Did the client send data, which may have come with its SYN?"""
        found: Bool = (self.events["request_ns"] != 0) | (self.events["syn"]["payload_len"] != 0)
        return found

    @property
    def unacked(self) -> Bool:
        """Did the server ack nothing of the client's data, as far as was seen?"""
        # of data in the SYN the SYN-ACK has told
        taken = self.case.batch.verdicts.acked_payload_len[self.rows] != 0
        found: Bool = (self.events["request_acked"] == 0) & ((self.events["request_ns"] != 0) | ~taken)
        return found

    @property
    def in_vain(self) -> Bool:
        """Did the client send its request again and again, and the server never ack it?"""
        found: Bool = (self.events["request_repeats"] >= REPEATS_THAT_FAIL) & self.unacked
        return found & _IN_VAIN.take(self.after)

    @property
    def misfit(self) -> Bool:
        """Did a RST or SYN-ACK come that does not fit?"""
        found: Bool = (self.events["misfit_rsts"] | self.events["misfit_synacks"]) != 0
        return found

    @property
    def reset_elsewhere(self) -> Bool:
        """Was the reset, if there is one, sent by another host than this one?

        Who is known to send SYNs elsewhere passes on the answers of others.
        """
        forwarded = self.listening.known & ~self.listening.here & ~self.listening.nobody
        found: Bool = ~self.at_server | (forwarded & (HOPS.take(self.events["reset_ttl"]) != 0))
        return found

    @property
    def reset_fits_synack(self) -> Bool:
        """Did the reset come from as far away as the SYN-ACK?"""
        found: Bool = HOPS.take(self.events["reset_ttl"]) == HOPS.take(self.events["synack"]["ttl"])
        return found

    @property
    def has_cause(self) -> Bool:
        """Those that are explained already."""
        found: Bool = self.case.causes.handshake_cause[self.rows] != HandshakeCause.NONE
        return found
