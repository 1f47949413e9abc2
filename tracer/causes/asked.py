"""Handshakes whose fate has to be explained (TFO.md section 8), and what all who explain it look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracer.causes.attempts import PeerHash
from tracer.causes.case import Case
from tracer.causes.listeners import Listeners, Listening
from tracer.handshake.batch import Batch
from tracer.handshake.events import U8, Bool, Events, Indexes, has, pick
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


def to_explain(batch: Batch) -> Indexes:
    """Rows that failed, took a retransmission, or were not served; the run's end explains itself."""
    events = batch.events
    asked = _FAILED.take(events["result"]) | _NOT_SERVED.take(batch.verdicts.after)
    asked |= (events["syn_count"] > 1) | (events["synack_count"] > 1)
    ended = (events["reason"] == SettleReason.AT_END) | (events["reason"] == SettleReason.BY_NEW_SYN)
    rows: Indexes = np.flatnonzero(asked & ~ended)
    return rows


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
    def of(cls, case: Case, rows: Indexes, hashes: PeerHash, listeners: Listeners) -> Asked:
        events = pick(case.batch.events, rows)
        return cls(
            case, rows, events, events["result"], case.batch.verdicts.after[rows], at_server(case.batch, rows),
            has(events["synack"]["has"], Has.SEGMENT), listeners.of(hashes.listeners(events), events["syn_ns"]),
        )  # fmt: skip

    def blame(self, which: Bool, cause: HandshakeCause, confidence: Confidence, at: CauseAt = CauseAt.NONE) -> None:
        """Give a cause to those rows that have none yet."""
        self.case.blame(self.rows[which], cause, confidence, at)

    def is_result(self, *results: HandshakeResult) -> Bool:
        found: Bool = np.isin(self.result, results)
        return found

    @property
    def has_cause(self) -> Bool:
        """Those that are explained already."""
        found: Bool = self.case.causes.handshake_cause[self.rows] != HandshakeCause.NONE
        return found
