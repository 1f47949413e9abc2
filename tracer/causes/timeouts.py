"""SYNs that timed out, of which only a bare one was answered: lost by chance, or dropped for their data?

Two in a row are telling, after which Linux sends no more data. But a path that let SYN data pass to the same server, or
lost a SYN without any, within the hour loses packets of every kind. Notes come for whole batches, and each row sees
those of the rows before it.
"""

from __future__ import annotations

import numpy as np

from tracer.causes.attempts import Attempts
from tracer.causes.case import Case
from tracer.causes.notes import Earlier, Notes
from tracer.causes.peer_history import REMEMBER_NS, SERVERS
from tracer.handshake.batch import Batch
from tracer.handshake.events import U64, Bool, Indexes, has, pick
from tracer.vocabulary.vocabulary import Cause, Confidence, Has, Outcome, Vantage

PAIRS = 1 << 16
# A SYN sent again sooner had not timed out: Linux waits a second (RFC 6298), or not at all after an ICMP error.
LOST_AFTER_NS = 200_000_000

_AT_SERVER = Vantage.SERVER  # the bit that SERVER and LOCAL share
_ECN = 0xC0  # TCP flags ECE and CWR
_IS_TAKEN = np.zeros(len(Outcome), np.bool_)
_IS_TAKEN[[Outcome.DATA_ACKED, Outcome.DATA_ACKED_NEW_COOKIE, Outcome.DATA_PARTLY_ACKED]] = True


class Timeouts:
    """Takes batches in the order of settling; how many handshakes each has makes no difference."""

    def __init__(self) -> None:
        self._fell_back = Notes(PAIRS, "when_ns")  # pairs whose SYN with data timed out
        self._passed = Notes(SERVERS, "when_ns")  # servers that answered a SYN with data
        self._lost = Notes(SERVERS, "when_ns")  # servers to which, or from which, one without data was lost

    def judge(self, case: Case, tried: Attempts, lost: Indexes) -> None:
        """Say why SYNs timed out; note this batch. `lost`: see lost_without_data()."""
        passed = np.flatnonzero(_data_passed(case.batch, tried))
        passed_at, keys = tried.rows[passed], case.keys.places
        passed_keys, passed_ns = keys[passed_at], tried.syn_ns[passed]
        lost_keys, lost_ns = keys[lost], case.batch.events["syn_ns"][lost]
        fell_back = np.flatnonzero(_timed_out(case.batch, tried))
        if len(fell_back):
            of_data = fell_back[_for_its_data(tried, fell_back)]
            rows, pairs, syn_ns = tried.rows[of_data], tried.pairs[of_data], tried.syn_ns[of_data]
            places = keys[rows]
            again = _within_hour(self._fell_back, pairs, rows, syn_ns, pairs, rows, syn_ns)
            again &= ~_within_hour(self._passed, passed_keys, passed_at, passed_ns, places, rows, syn_ns)
            again &= ~_within_hour(self._lost, lost_keys, lost, lost_ns, places, rows + 1, syn_ns)
            case.say(rows[again], Cause.PATH_DROPS_SYN_DATA, Confidence.LIKELY)
            case.say(tried.rows[fell_back], Cause.PACKET_LOSS, Confidence.POSSIBLE)
            self._fell_back.add(pairs, syn_ns)
        if len(passed):
            self._passed.add(passed_keys, passed_ns)
        if len(lost):
            self._lost.add(lost_keys, lost_ns)


def lost_without_data(batch: Batch) -> Indexes:
    """Handshakes of which a SYN without data was not answered, and a later one was; with Fast Open or without."""
    rows = np.flatnonzero(batch.events["retx_count"])
    if not len(rows):
        return rows
    events, verdicts = pick(batch.events, rows), batch.verdicts
    # the first SYN without data is the first one, or the one that followed that
    number = (events["syn"]["payload_len"] != 0).astype(np.intp) + 1
    next_us = events["retx"]["after_us"][np.arange(len(rows)), number - 1].astype(np.uint64)
    answered_us = (events["synack_ns"] - events["syn_ns"]) // np.uint64(1000)
    lost = (events["retx_count"] >= number) & has(events["synack"]["has"], Has.SEGMENT)
    lost &= (next_us * np.uint64(1000) >= LOST_AFTER_NS) & (next_us <= answered_us) & (events["challenge_acks"] == 0)
    # TSecr may show that an earlier one was answered after all, just late
    answered = verdicts.answered_syn[rows]
    found: Indexes = rows[lost & ((answered == 0) | (answered > number))]
    return found


def _data_passed(batch: Batch, tried: Attempts) -> Bool:
    answered = has(batch.events["synack"]["has"][tried.rows], Has.SEGMENT)
    passed: Bool = answered & (batch.verdicts.answered_syn[tried.rows] == 1)
    passed |= _IS_TAKEN.take(tried.outcome)
    passed &= batch.events["syn"]["payload_len"][tried.rows] != 0
    return passed


def _timed_out(batch: Batch, tried: Attempts) -> Bool:
    fell_back: Bool = tried.outcome == Outcome.SYN_TIMEOUT_FALLBACK
    if fell_back.any():
        fell_back &= batch.verdicts.answered_after_us[tried.rows] * 1000 >= LOST_AFTER_NS
        fell_back &= (tried.vantage & _AT_SERVER) == 0
    return fell_back


def _for_its_data(tried: Attempts, at: Indexes) -> Bool:
    """Did the answered SYN lack only data and option, or was ECN gone, too, which may be blocked as well?"""
    events, at = tried.events, tried.rows[at]
    asked = (events["syn"]["tcp_flags"][at] & _ECN) != 0
    found: Bool = (events["syn"]["payload_len"][at] != 0) & (~asked | ((events["retx_flags"][at, 0] & _ECN) != 0))
    return found


def _within_hour(
    notes: Notes, noted: U64, at: Indexes, when_ns: U64, keys: U64, rows: Indexes, syn_ns: U64
) -> Bool:  # fmt: skip
    """Was each key noted before its row, in the last hour?"""
    known, (last_ns,) = notes.past(Earlier(noted, at, keys), (when_ns,), keys, rows)
    found: Bool = known & (syn_ns < last_ns + np.uint64(REMEMBER_NS))
    return found
