"""How a connection went on once its handshake was over (DESIGN.md section 3), over whole batches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import U8, Bool, Events, Indexes
from tracer.vocabulary.vocabulary import After, Group, HandshakeResult, ResetFrom, SettleReason

REPEATS_THAT_FAIL = 2  # so often was the request sent again: not one lost packet
NOT_KNOWN = 2  # of request_acked()


def _server_is_seen(events: Events, rows: Indexes | slice) -> Bool:
    """Is the server's direction traced? If not, what did not come from there says nothing."""
    seen: Bool = (events["one_way"][rows] == 0) | (events["response_ns"][rows] != 0)
    return seen


def afterwards(events: Events) -> U8:
    """What settled an established connection (After)."""
    established = events["result"] == HandshakeResult.ESTABLISHED
    reason = events["reason"]
    after: U8 = (established & (reason == SettleReason.BY_RESPONSE)) * np.uint8(After.RESPONSE)
    rows = np.flatnonzero(established & _OTHER_ENDS.take(reason))
    if len(rows):
        after[rows] = _without_response(events, rows) * _server_is_seen(events, rows)
    return after


_OTHER_ENDS = np.zeros(256, np.bool_)
_OTHER_ENDS[[SettleReason.BY_RST, SettleReason.BY_FIN, SettleReason.BY_TIMEOUT]] = True


def _without_response(events: Events, rows: Indexes) -> U8:
    reason, reset_from = events["reason"][rows], events["reset_from"][rows]
    sent = (events["request_ns"][rows] != 0) | (events["syn"]["payload_len"][rows] != 0)
    client_closed = events["client_fin"][rows] != 0
    by_rst, by_fin, by_timeout = (
        reason == one for one in (SettleReason.BY_RST, SettleReason.BY_FIN, SettleReason.BY_TIMEOUT)
    )
    by_client = by_rst & (reset_from == ResetFrom.CLIENT)
    found = np.select(
        [
            by_rst & (reset_from == ResetFrom.SERVER),
            by_client & sent,
            by_client | (~by_rst & client_closed & ~sent),
            ~by_rst & client_closed,
            by_fin,
            by_timeout & (events["synacks_after_ack"][rows] != 0),
            by_timeout,
        ],
        [
            After.RESET_BY_SERVER,
            After.RESET_BY_CLIENT,
            After.CLOSED_UNUSED,
            After.CLIENT_CLOSED,
            After.SERVER_CLOSED,
            After.SYNACK_AGAIN,
            After.SILENCE,
        ],
        After.NONE,
    )
    return found.astype(np.uint8)


def lived(events: Events) -> Bool:
    """Did the server answer, close, or ack more than its SYN-ACK did?"""
    alive: Bool = events["response_ns"] != 0
    alive |= events["reason"] == SettleReason.BY_FIN
    alive |= events["request_acked"] != 0
    alive &= events["result"] == HandshakeResult.ESTABLISHED
    return alive


_TOOK_THE_SYN = np.zeros(256, np.bool_)
_TOOK_THE_SYN[[HandshakeResult.ESTABLISHED, HandshakeResult.ABORTED]] = True


def died(events: Events, group: U8, alive: Bool) -> Bool:
    """Attempts whose connection the server reset before any data, or which sent a request in vain."""
    found: Bool = (events["request_repeats"] >= REPEATS_THAT_FAIL) & ~alive
    rows = np.flatnonzero(events["reset_from"] == ResetFrom.SERVER)
    if len(rows):
        found[rows] |= _TOOK_THE_SYN.take(events["result"][rows]) & (events["response_ns"][rows] == 0)
    found &= group != Group.NOT_APPLICABLE
    return found


def request_acked(events: Events) -> U8:
    """Did the server ack more than its SYN-ACK did? NOT_KNOWN before the handshake was over."""
    known = (events["result"] == HandshakeResult.ESTABLISHED) & _server_is_seen(events, slice(None))
    return np.where(known, events["request_acked"] != 0, np.uint8(NOT_KNOWN)).astype(np.uint8)


def misfits(events: Events) -> NDArray[np.intp]:
    """Rows for which segments came whose numbers do not fit."""
    return np.flatnonzero(events["misfit_rsts"] | events["misfit_synacks"] | events["misfit_icmps"])
