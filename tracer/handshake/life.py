"""How a connection went on once its handshake was over (DESIGN.md section 3), over whole batches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import U8, Bool, Events, Indexes
from tracer.records.life import REPEATS_THAT_FAIL
from tracer.vocabulary.vocabulary import After, HandshakeResult, ResetFrom, SettleReason

NOT_KNOWN = 2  # of request_acked()


def judge_life(events: Events) -> tuple[U8, Bool]:
    """What settled an established connection (After), and whether it lived.

    It lived if the server answered, closed, or acked more than its SYN-ACK did.
    """
    established = events["result"] == HandshakeResult.ESTABLISHED
    alive: Bool = established & (events["reason"] == SettleReason.BY_RESPONSE)
    after: U8 = alive * np.uint8(After.RESPONSE)
    rows = np.flatnonzero(established & ~alive)  # few
    if len(rows):
        reason, answered = events["reason"][rows], events["response_ns"][rows] != 0
        alive[rows] = answered | (reason == SettleReason.BY_FIN) | (events["request_acked"][rows] != 0)
        # what did not come from a direction that is not traced says nothing
        seen = answered | (events["one_way"][rows] == 0)
        after[rows] = _without_response(events, rows, reason) * seen
    return after, alive


def _without_response(events: Events, rows: Indexes, reason: U8) -> U8:
    reset_from = events["reset_from"][rows]
    sent = (events["request_ns"][rows] != 0) | (events["syn"]["payload_len"][rows] != 0)
    client_closed = events["client_fin"][rows] != 0
    by_rst, by_fin, by_timeout = (
        reason == one for one in (SettleReason.BY_RST, SettleReason.BY_FIN, SettleReason.BY_TIMEOUT)
    )
    closed = client_closed & (by_fin | by_timeout)
    by_client = by_rst & (reset_from == ResetFrom.CLIENT)
    found = np.select(
        [
            by_rst & (reset_from == ResetFrom.SERVER),
            by_client & sent,
            (by_client | closed) & ~sent,
            closed,
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


def died(events: Events, rows: Indexes, alive: Bool) -> Indexes:
    """Those of some rows whose connection the server reset before any data, or which sent a request in vain."""
    if not len(rows):
        return rows
    taken = _TOOK_THE_SYN.take(events["result"][rows])
    reset = taken & (events["reset_from"][rows] == ResetFrom.SERVER) & (events["response_ns"][rows] == 0)
    in_vain = (events["request_repeats"][rows] >= REPEATS_THAT_FAIL) & ~alive[rows]
    found: Indexes = rows[reset | in_vain]
    return found


_TOOK_THE_SYN = np.zeros(256, np.bool_)
_TOOK_THE_SYN[[HandshakeResult.ESTABLISHED, HandshakeResult.ABORTED]] = True


def request_acked(events: Events) -> U8:
    """Did the server ack more than its SYN-ACK did? NOT_KNOWN before the handshake was over."""
    known = (events["result"] == HandshakeResult.ESTABLISHED) & (
        (events["one_way"] == 0) | (events["response_ns"] != 0)
    )
    return np.where(known, events["request_acked"] != 0, np.uint8(NOT_KNOWN)).astype(np.uint8)


def misfits(events: Events) -> NDArray[np.intp]:
    """Rows for which segments came whose numbers do not fit."""
    return np.flatnonzero(events["misfit_rsts"] | events["misfit_synacks"] | events["misfit_icmps"])
