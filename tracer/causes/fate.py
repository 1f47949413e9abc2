"""Why a handshake failed, took so long, or was not served, as the wire tells it (TFO.md section 8).

Asked of handshakes that failed, took a retransmission, or were established and not served. Each rule takes the rows
that fit it and have no cause yet, so the order is that of certainty, and among equals from the special to the general.
"""

from __future__ import annotations

import numpy as np

from tracer.causes.asked import Asked
from tracer.causes.attempts import PeerHash
from tracer.causes.case import Case
from tracer.causes.kernel_evidence import KernelEvidence
from tracer.causes.listeners import Listeners
from tracer.causes.queues import Queues
from tracer.causes.server_memory import HOPS, ServerMemory
from tracer.handshake.batch import Batch
from tracer.handshake.ecn import asked_again, asks_for_ecn
from tracer.handshake.events import F64, U8, Bool, Events, Indexes, pick
from tracer.records.life import REPEATS_THAT_FAIL
from tracer.vocabulary.vocabulary import (
    After,
    CauseAt,
    Confidence,
    HandshakeCause,
    HandshakeResult,
    ResetFrom,
    SettleReason,
)

PATIENCE_US, PATIENCE_RTTS = 1_000_000, 10  # who waits as long has given up, and is not in a hurry
# destination unreachable: network, host or communication administratively prohibited (RFC 1812, RFC 4443)
_PROHIBITED_V4, _PROHIBITED_V6 = (9, 10, 13), (1,)


class Fates:
    """Explains rows by the wire, by what servers did before, and by this host's sockets and counters."""

    def __init__(self, hashes: PeerHash, evidence: KernelEvidence, listeners: Listeners) -> None:
        self._hash, self._evidence, self._listeners = hashes, evidence, listeners
        self._servers = ServerMemory(hashes)
        self.queues = Queues(hashes, evidence, listeners)

    def judge(self, case: Case, rows: Indexes) -> None:
        """Give causes to `rows` (to_explain), after what is certain has been said."""
        if len(rows):
            asked = Asked.of(case, rows, self._hash, self._listeners)
            self._refused(asked)
            self.queues.judge(asked)
            self.queues.judge_cookies(asked)
            self._lost_at_server(asked)
            self._ecn(asked)
            self._slow(asked)
            self._not_served(asked)
            self._silence(asked)
        self.note(case.batch)

    def note(self, batch: Batch) -> None:
        """Remember who answered."""
        self._servers.note(batch)

    # --- answers that ended it ---

    def _refused(self, asked: Asked) -> None:
        events = asked.events
        by_server = events["reset_from"] == ResetFrom.SERVER
        rejected = asked.is_result(HandshakeResult.REJECTED) & by_server
        own = asked.at_server & (HOPS[events["reset_ttl"]] == 0)
        listening = asked.listening
        nobody = rejected & own & listening.known & listening.nobody & ~listening.changed
        asked.blame(nobody, HandshakeCause.NO_LISTENER, Confidence.CERTAIN, CauseAt.THIS_HOST)

        away = rejected & ~asked.at_server
        known, fits = self._servers.distance_fits(events, events["reset_ttl"])
        asked.blame(away & known & ~fits, HandshakeCause.ANSWERED_ON_PATH, Confidence.LIKELY, CauseAt.PATH)
        ecn = asks_for_ecn(events["syn"]["tcp_flags"]) & self._servers.answered_plain(events)
        ecn &= ~self._servers.answered_ecn(events)
        self._blame_ecn(asked, away & known & ecn)
        asked.blame(away & known, HandshakeCause.REFUSED, Confidence.LIKELY, CauseAt.SERVER)

        kind, code = events["icmp_type"], events["icmp_code"]
        prohibited = np.where(events["family"] == 4, np.isin(code, _PROHIBITED_V4), np.isin(code, _PROHIBITED_V6))
        prohibited &= asked.is_result(HandshakeResult.UNREACHABLE) & (kind == np.where(events["family"] == 4, 3, 1))
        asked.blame(prohibited & ~asked.at_server, HandshakeCause.FIREWALL_REJECTED, Confidence.LIKELY)

        unanswered = asked.is_result(HandshakeResult.NO_REPLY)
        misfit = (events["misfit_rsts"] | events["misfit_synacks"]) != 0
        asked.blame(unanswered & misfit, HandshakeCause.ANSWER_DOES_NOT_FIT, Confidence.LIKELY)
        asked.blame(away, HandshakeCause.REFUSED, Confidence.POSSIBLE)

    # --- lost segments, late answers ---

    def _lost_at_server(self, asked: Asked) -> None:
        """The client sent its SYN again after a SYN-ACK had left, and got another one."""
        events = asked.events
        lost = asked.at_server & (events["late_syns"] != 0) & (events["synack_count"] > 1)
        lost &= ~asked.is_result(HandshakeResult.HALF_OPEN)
        asked.blame(lost, HandshakeCause.SYNACK_LOST, Confidence.LIKELY, CauseAt.PATH)

    def _ecn(self, asked: Asked) -> None:
        """Only SYNs that asked for ECN stayed unanswered, and one that did not was taken."""
        events = asked.events
        number = asked.case.batch.verdicts.answered_syn[asked.rows]
        plain = asked.answered & (number > 1) & ~asked.at_server & _ecn_until(events, number)
        self._blame_ecn(asked, plain & ~self._servers.answered_ecn(events))

    def _blame_ecn(self, asked: Asked, which: Bool) -> None:
        at = np.flatnonzero(which & ~asked.has_cause)
        if not len(at):
            return
        again = np.zeros(len(which), np.bool_)
        again[at] = self._servers.lost_ecn(pick(asked.events, at))
        asked.blame(which & again, HandshakeCause.ECN_BLOCKED, Confidence.LIKELY, CauseAt.PATH)
        asked.blame(which, HandshakeCause.ECN_BLOCKED, Confidence.POSSIBLE, CauseAt.PATH)

    def _slow(self, asked: Asked) -> None:
        events, verdicts = asked.events, asked.case.batch.verdicts
        number = verdicts.answered_syn[asked.rows]
        waited_ns = events["synack_ns"] - events["syn_ns"]
        retx_ns = events["retx"]["after_us"][:, 0].astype(np.uint64) * np.uint64(1000)
        again_before = asked.answered & (events["retx_count"] != 0) & (waited_ns > retx_ns)
        asked.blame(again_before & (number == 1), HandshakeCause.SLOW_ANSWER, Confidence.LIKELY)
        away = again_before & ~asked.at_server
        asked.blame(away, HandshakeCause.SYN_OR_SYNACK_LOST, Confidence.POSSIBLE, CauseAt.PATH)

    # --- established, and not served ---

    def _not_served(self, asked: Asked) -> None:
        events, durations = asked.events, asked.case.batch.durations
        sent = (events["request_ns"] != 0) | (events["syn"]["payload_len"] != 0)
        left = np.isin(asked.after, (After.RESET_BY_CLIENT, After.CLIENT_CLOSED)) & sent
        waited_us: F64 = (events["settled_ns"] - events["syn_ns"]) / 1000
        rtt_us = np.nan_to_num(durations.rtt_us[asked.rows])
        patient = (waited_us >= PATIENCE_US) & (waited_us >= PATIENCE_RTTS * rtt_us)
        asked.blame(left & patient, HandshakeCause.CLIENT_GAVE_UP, Confidence.LIKELY)
        in_vain = (events["request_repeats"] >= REPEATS_THAT_FAIL) & (events["request_acked"] == 0)
        in_vain &= np.isin(asked.after, (After.SILENCE, After.SYNACK_AGAIN))
        asked.blame(in_vain, HandshakeCause.SILENT_AFTER_ESTABLISHED, Confidence.LIKELY)
        reset = (asked.after == After.RESET_BY_SERVER) & sent
        asked.blame(reset, HandshakeCause.RESET_AFTER_ESTABLISHED, Confidence.LIKELY)

    # --- nothing ---

    def _silence(self, asked: Asked) -> None:
        by_timeout = asked.events["reason"] == SettleReason.BY_TIMEOUT
        half_open = asked.is_result(HandshakeResult.HALF_OPEN) & by_timeout
        asked.blame(half_open, HandshakeCause.ACK_MISSING, Confidence.POSSIBLE)
        silent = asked.is_result(HandshakeResult.NO_REPLY) & by_timeout & ~asked.at_server
        others = self._servers.answered(asked.events)
        asked.blame(silent & others, HandshakeCause.PACKET_LOSS, Confidence.POSSIBLE)
        asked.blame(silent, HandshakeCause.FILTERED_OR_DOWN, Confidence.POSSIBLE)


def _ecn_until(events: Events, number: U8) -> Bool:
    """Did all SYNs before that number ask for ECN, and it did not?"""
    asked = np.column_stack((asks_for_ecn(events["syn"]["tcp_flags"]), asked_again(events)))
    order = np.arange(asked.shape[1])[None, :]
    before = order < (number.astype(np.intp) - 1)[:, None]
    at = np.minimum(number.astype(np.intp) - 1, asked.shape[1] - 1)
    found: Bool = (asked | ~before).all(axis=1) & ~asked[np.arange(len(at)), np.maximum(at, 0)]
    return found
