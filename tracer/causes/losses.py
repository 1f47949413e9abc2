"""Segments that were lost, answers that came late, and SYNs that something eats because they ask for ECN."""

from __future__ import annotations

import numpy as np

from tracer.causes.asked import Asked
from tracer.causes.server_memory import Noted, ServerMemory, presumed_answer, syns_before_answer
from tracer.causes.timeouts import LOST_AFTER_NS
from tracer.handshake.ecn import asked_again, asks_for_ecn
from tracer.handshake.events import U8, U64, Bool, Events, has
from tracer.vocabulary.vocabulary import Confidence, HandshakeCause, Has, Vantage

_US, _MS = np.uint64(1000), np.uint64(1_000_000)
# An answer that comes sooner after a repeated SYN is hardly a late one to the first: Linux repeats its SYN-ACK with the
# TSecr of the first SYN.
_BUSY_NS = np.uint64(100_000_000)
_SYNACKS = 7  # net.ipv4.tcp_synack_retries, and the first
_SOON_NS = 50 * _MS
_AT_CLIENT = Vantage.CLIENT


def judge_losses(asked: Asked, noted: Noted, servers: ServerMemory) -> None:
    """Give causes to rows that were answered after a SYN had been sent again.

    A resumed record has its SYNs from before the handshake failed.
    """
    fresh = asked.answered & (asked.events["resumed"] == 0)
    if not fresh.any():
        return
    _synack_lost(asked, fresh)
    _slow(asked, fresh)
    _ecn(asked, fresh, noted, servers)
    again = _again_before_answer(asked.events) & fresh & ~asked.at_server
    # sooner, the client was told to, as by the ICMP error that its SYN with data was too long for the path
    again &= _last_syn_before(asked.events) - asked.events["syn_ns"] >= np.uint64(LOST_AFTER_NS)
    asked.blame(again, HandshakeCause.SYN_OR_SYNACK_LOST, Confidence.POSSIBLE)


def _synack_lost(asked: Asked, fresh: Bool) -> None:
    """The client sent its SYN again after a SYN-ACK had passed here, and got another one."""
    events, vantage = asked.events, asked.case.batch.vantage[asked.rows]
    # at the client's own host it has arrived
    behind = asked.at_server | (vantage != _AT_CLIENT)
    twice = fresh & behind & (events["late_syns"] != 0) & (events["synack_count"] > 1)
    if not twice.any():
        return
    synack = events["synack"]
    # its ACK echoes the first one: that had arrived, after the client had lost patience
    first = has(synack["has"], Has.TIMESTAMPS) & (events["ack_ts_ecr"] != 0)
    first &= events["ack_ts_ecr"] == synack["ts_val"]
    # on the way, what passed as the first one may have been sent again for one that was lost before
    twice &= ~(first & ~asked.at_server & _when_sent_again(events, _SOON_NS))
    asked.blame(twice & first, HandshakeCause.SLOW_ANSWER, Confidence.LIKELY)
    asked.blame(twice, HandshakeCause.SYNACK_LOST, Confidence.LIKELY)


def _slow(asked: Asked, fresh: Bool) -> None:
    """TSecr says that the first SYN was answered, and it took longer than the client waited.

    A SYN-ACK that was lost and sent again echoes the first SYN, too. It comes a round trip after the second SYN, and
    the response takes no less than a round trip.
    """
    events = asked.events
    number = asked.case.batch.verdicts.answered_syn[asked.rows]
    late = fresh & (number == 1) & _again_before_answer(events)
    if not late.any():
        return
    since_last_ns = events["synack_ns"] - _last_syn_before(events)
    asked_ns = np.maximum(events["ack_ns"], events["request_ns"])
    known = (events["response_ns"] > asked_ns) & (asked_ns != 0)
    response_ns = np.where(known, events["response_ns"] - asked_ns, np.uint64(0))
    soon_ns = _SOON_NS + np.uint64(2) * response_ns
    not_so_soon = (since_last_ns >= soon_ns) & ~_when_sent_again(events, soon_ns)
    # this host knows which SYN-ACKs it has sent
    slow = late & (asked.at_server | not_so_soon)
    asked.blame(slow, HandshakeCause.SLOW_ANSWER, Confidence.LIKELY)


def _when_sent_again(events: Events, soon_ns: U64 | np.uint64) -> Bool:
    """Did the SYN-ACK come when Linux sends one again, 1, 3, 7 ... seconds after the first?

    Its timers may be an eighth late (kernel/time/timer.c), and a busy host adds to that.
    """
    since_ns = events["synack_ns"] - events["syn_ns"]
    found = np.zeros(len(events), np.bool_)
    for number in range(1, _SYNACKS):
        at_ns = np.uint64(((1 << number) - 1) * 1_000_000_000)
        found |= (since_ns >= at_ns) & (since_ns < at_ns + (at_ns >> np.uint64(3)) + _BUSY_NS + soon_ns)
    return found


def _ecn(asked: Asked, fresh: Bool, noted: Noted, servers: ServerMemory) -> None:
    """Only SYNs that asked for ECN stayed unanswered, and one that did not was taken."""
    plain = fresh & ~asked.at_server & ~asked.has_cause
    plain &= (asked.events["challenge_acks"] == 0) & asks_for_ecn(asked.events["syn"]["tcp_flags"])
    # a SYN with Fast Open, or its data, may have been lost for that
    plain &= ~asked.case.batch.verdicts.attempted[asked.rows]
    if not plain.any():
        return
    number = presumed_answer(asked.events, asked.case.batch.verdicts.answered_syn[asked.rows])
    plain &= (number > 1) & _ecn_until(asked.events, number)
    passes = asked.whether(plain, lambda rows: servers.passes_ecn(noted, rows))
    again = asked.whether(plain & ~passes, lambda rows: servers.lost_ecn(noted, rows))
    asked.blame(again, HandshakeCause.ECN_BLOCKED, Confidence.LIKELY)
    asked.blame(plain & ~passes, HandshakeCause.ECN_BLOCKED, Confidence.POSSIBLE)
    # what passes such SYNs has lost one by chance
    asked.blame(plain & passes, HandshakeCause.PACKET_LOSS, Confidence.POSSIBLE)


def _again_before_answer(events: Events) -> Bool:
    retx_ns = events["retx"]["after_us"][:, 0].astype(np.uint64) * _US
    found: Bool = (events["retx_count"] != 0) & (events["synack_ns"] - events["syn_ns"] > retx_ns)
    return found


def _last_syn_before(events: Events) -> U64:
    """When the last SYN before the SYN-ACK was sent."""
    there = syns_before_answer(events)
    after = np.where(there, events["retx"]["after_us"].astype(np.uint64) * _US, np.uint64(0))
    found: U64 = events["syn_ns"] + after.max(axis=1)
    return found


def _ecn_until(events: Events, number: U8) -> Bool:
    """Did all SYNs before that number ask for ECN, and it did not?"""
    asked = np.column_stack((asks_for_ecn(events["syn"]["tcp_flags"]), asked_again(events)))
    order = np.arange(asked.shape[1])[None, :]
    before = order < (number.astype(np.intp) - 1)[:, None]
    at = np.minimum(number.astype(np.intp) - 1, asked.shape[1] - 1)
    found: Bool = (asked | ~before).all(axis=1) & ~asked[np.arange(len(at)), np.maximum(at, 0)]
    return found
