"""Causes that the kernel's own word makes certain: TFO.md section 8, the rows of `drop`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from tracer.handshake.batch import Batch
from tracer.handshake.events import U8, Bool, among
from tracer.records.drop import Drop
from tracer.vocabulary.drops import dropped_by, found_no_socket, found_queue_full
from tracer.vocabulary.vocabulary import CauseAt, Confidence, HandshakeCause, HandshakeResult, ResetFrom, Vantage

_REFUSED = among((HandshakeResult.REJECTED, HandshakeResult.UNREACHABLE))
_SYN, _NO_SOCKET, _FILTERED = "syn", "NO_SOCKET", "NETFILTER_DROP"
_OF_QUEUES = (HandshakeCause.ACCEPT_QUEUE_FULL, HandshakeCause.SYN_QUEUE_FULL, HandshakeCause.ACCEPT_DEFERRED)
_OF_OTHERS = (*_OF_QUEUES, HandshakeCause.NO_ROUTE_BACK)  # inferred from counters of a listener
T = TypeVar("T")


def blame(batch: Batch, drops: Sequence[Drop | None], reset_reasons: Sequence[str | None], whole: Bool) -> None:
    """Give certain causes to rows with a word of the traced namespace; what is only likely gives way.

    `whole`: rows whose word covers every segment of that kind, so that no other one can have gone on.
    """
    causes, events = batch.causes, batch.events
    if not causes.drop.any() and not causes.reset_reason.any():
        return
    refused = _REFUSED[events["result"]]
    by_server = events["reset_from"] == ResetFrom.SERVER
    rejected = events["result"] == HandshakeResult.REJECTED
    own_reset = _rows_with(causes.reset_reason, reset_reasons, lambda reason: reason == _NO_SOCKET)
    of_syn = _rows_with(causes.drop, drops, lambda drop: _is_own(drop) and drop.segment == _SYN)
    no_socket = _rows_with(causes.drop, drops, lambda drop: _is_own(drop) and found_no_socket(drop.reason, drop.at))
    filtered = _rows_with(causes.drop, drops, lambda drop: _is_own(drop) and drop.reason == _FILTERED)
    known = _rows_with(causes.drop, drops, lambda drop: _is_own(drop) and dropped_by(drop.reason, drop.at) is not None)
    # the client's RST for a SYN-ACK that it did not ask for says nothing about listeners
    _say(batch, (of_syn & no_socket & whole & ~by_server) | (of_syn & no_socket & rejected), HandshakeCause.NO_LISTENER)
    _say(batch, own_reset & rejected & by_server, HandshakeCause.NO_LISTENER)
    overflow = _rows_with(causes.drop, drops, lambda drop: _is_own(drop) and found_queue_full(drop.reason, drop.at))
    # the client's other ACKs, of the same numbers, were not taken either
    _say(batch, overflow, HandshakeCause.ACCEPT_QUEUE_FULL)
    # what was seen to leave by no interface: the kernel says why
    stuck = causes.handshake_cause == HandshakeCause.NOT_FORWARDED
    beyond = causes.handshake_cause == HandshakeCause.NO_ANSWER_BEYOND  # it was seen to leave: this was a copy
    of_syn &= ~beyond
    whole = whole & ~beyond
    _say(batch, stuck & of_syn & known & whole, HandshakeCause.NOT_FORWARDED)
    _say(batch, of_syn & filtered & refused, HandshakeCause.FIREWALL_REJECTED)
    # what only passes through here was not for this host, and its own ICMP error is part of not passing it on
    passed = (batch.vantage == Vantage.TRANSIT) & (events["egress"] == 0) & ~rejected
    _say(batch, of_syn & known & whole & passed, HandshakeCause.NOT_FORWARDED)
    # who answered took it, whether or not the numbers fitted: a filter of one socket drops what another one takes
    refused |= events["result"] == HandshakeResult.ABORTED
    for count in ("misfit_rsts", "misfit_synacks", "misfit_icmps"):
        refused |= events[count] != 0
    _say(batch, known & whole & ~refused, HandshakeCause.HOST_DROPPED)


def _is_own(drop: Drop) -> bool:
    return drop.netns is None


def _rows_with(numbers: U8, table: Sequence[T | None], is_meant: Callable[[T], bool]) -> Bool:
    meant = np.array([one is not None and is_meant(one) for one in table], np.bool_)
    found: Bool = meant[numbers]
    return found


def _say(batch: Batch, rows: Bool, cause: HandshakeCause) -> None:
    causes = batch.causes
    chosen = rows & (causes.handshake_confidence != Confidence.CERTAIN)
    if cause not in _OF_QUEUES:  # of other segments, while this word is of this handshake's own
        chosen |= rows & among(_OF_OTHERS).take(causes.handshake_cause)
    causes.handshake_cause[chosen] = cause
    causes.handshake_confidence[chosen] = Confidence.CERTAIN
    causes.cause_at[chosen] = CauseAt.THIS_HOST
    if cause not in _OF_QUEUES:
        causes.listener[chosen] = 0
