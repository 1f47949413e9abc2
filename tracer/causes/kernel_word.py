"""Causes that the kernel's own word makes certain: TFO.md section 8, the rows of `drop`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from tracer.handshake.batch import Batch
from tracer.handshake.events import U8, Bool, Events, Indexes, among, pick
from tracer.records.drop import Drop
from tracer.vocabulary.drops import comes_after_hook, dropped_by, found_no_socket, found_queue_full
from tracer.vocabulary.vocabulary import CauseAt, Confidence, HandshakeCause, HandshakeResult, ResetFrom, Vantage

_REFUSED = among((HandshakeResult.REJECTED, HandshakeResult.UNREACHABLE))
_SYN, _SYNACK, _NO_SOCKET, _FILTERED = "syn", "synack", "NO_SOCKET", "NETFILTER_DROP"
_OF_QUEUES = (HandshakeCause.ACCEPT_QUEUE_FULL, HandshakeCause.SYN_QUEUE_FULL, HandshakeCause.ACCEPT_DEFERRED)
_OF_OTHERS = (*_OF_QUEUES, HandshakeCause.NO_ROUTE_BACK)  # inferred from counters of a listener
T = TypeVar("T")


def blame(
    batch: Batch, rows: Indexes, drops: Sequence[Drop | None], reset_reasons: Sequence[str | None], whole: Bool
) -> None:
    """Give certain causes to rows with a word of the traced namespace; what is only likely gives way.

    `rows`: those with any word. `whole`: which of these words cover every segment of that kind, so that no other one
    can have gone on.
    """
    if not len(rows):
        return
    events, drop, reset_reason = pick(batch.events, rows), batch.causes.drop[rows], batch.causes.reset_reason[rows]
    refused = _REFUSED[events["result"]]
    by_server = events["reset_from"] == ResetFrom.SERVER
    rejected = events["result"] == HandshakeResult.REJECTED
    own_reset = _rows_with(reset_reason, reset_reasons, lambda reason: reason == _NO_SOCKET)
    of_syn = _rows_with(drop, drops, lambda one: _is_own(one) and one.segment == _SYN)
    no_socket = _rows_with(drop, drops, lambda one: _is_own(one) and found_no_socket(one.reason, one.at))
    filtered = _rows_with(drop, drops, lambda one: _is_own(one) and one.reason == _FILTERED)
    known = _rows_with(drop, drops, lambda one: _is_own(one) and dropped_by(one.reason, one.at) is not None)

    def say(which: Bool, cause: HandshakeCause) -> None:
        _say(batch, rows[which], cause)

    # the client's RST for a SYN-ACK that it did not ask for says nothing about listeners
    say((of_syn & no_socket & whole & ~by_server) | (of_syn & no_socket & rejected), HandshakeCause.NO_LISTENER)
    say(own_reset & rejected & by_server, HandshakeCause.NO_LISTENER)
    overflow = _rows_with(drop, drops, lambda one: _is_own(one) and found_queue_full(one.reason, one.at))
    # the client's other ACKs, of the same numbers, were not taken either
    say(overflow, HandshakeCause.ACCEPT_QUEUE_FULL)
    # what was seen to leave by no interface: the kernel says why
    cause = batch.causes.handshake_cause[rows]
    stuck = cause == HandshakeCause.NOT_FORWARDED
    beyond = cause == HandshakeCause.NO_ANSWER_BEYOND  # it was seen to leave: this was a copy
    after_hook = _rows_with(drop, drops, lambda one: _is_own(one) and comes_after_hook(one.reason))
    beyond &= ~_all_stayed(events, of_syn & whole & after_hook)
    of_syn &= ~beyond
    whole = whole & ~beyond
    say(stuck & of_syn & known & whole, HandshakeCause.NOT_FORWARDED)
    say(of_syn & filtered & refused, HandshakeCause.FIREWALL_REJECTED)
    # What a router keeps back the client does not answer. At its own host a scanner may, which takes copies.
    aborted = events["result"] == HandshakeResult.ABORTED
    of_synack = _rows_with(drop, drops, lambda one: _is_own(one) and one.segment == _SYNACK)
    kept_back = of_synack & whole & (batch.vantage[rows] == Vantage.TRANSIT)
    say(kept_back & filtered & aborted & (events["reset_from"] == ResetFrom.CLIENT), HandshakeCause.FIREWALL_REJECTED)
    # what only passes through here was not for this host, and its own ICMP error is part of not passing it on
    passed = (batch.vantage[rows] == Vantage.TRANSIT) & (events["egress"] == 0) & ~rejected
    say(of_syn & known & whole & passed, HandshakeCause.NOT_FORWARDED)
    # who answered took it, whether or not the numbers fitted: a filter of one socket drops what another one takes
    refused |= aborted
    for count in ("misfit_rsts", "misfit_synacks", "misfit_icmps"):
        refused |= events[count] != 0
    say(known & whole & ~refused, HandshakeCause.HOST_DROPPED)


def _all_stayed(events: Events, stayed: Bool) -> Bool:
    """Of which handshakes was no SYN seen to leave by an interface, but those in `stayed`, which were dropped there?"""
    left = events["egress"] != 0
    found: Bool = np.isin(events["id"], events["id"][left & stayed])
    found &= ~np.isin(events["id"], events["id"][left & ~stayed])
    return found


def _is_own(drop: Drop) -> bool:
    return drop.netns is None


def _rows_with(numbers: U8, table: Sequence[T | None], is_meant: Callable[[T], bool]) -> Bool:
    meant = np.array([one is not None and is_meant(one) for one in table], np.bool_)
    found: Bool = meant[numbers]
    return found


def _say(batch: Batch, rows: Indexes, cause: HandshakeCause) -> None:
    if not len(rows):
        return
    causes = batch.causes
    gives_way = causes.handshake_confidence[rows] != Confidence.CERTAIN
    if cause not in _OF_QUEUES:  # of other segments, while this word is of this handshake's own
        gives_way |= among(_OF_OTHERS).take(causes.handshake_cause[rows])
    chosen = rows[gives_way]
    causes.handshake_cause[chosen] = cause
    causes.handshake_confidence[chosen] = Confidence.CERTAIN
    causes.cause_at[chosen] = CauseAt.THIS_HOST
    if cause not in _OF_QUEUES:
        causes.listener[chosen] = 0
