"""The memory of servers, and of pairs of client and server, from which causes are inferred. All of it is bounded."""

from __future__ import annotations

import numpy as np

from tracer.causes.attempts import Attempts
from tracer.causes.slot_table import SlotTable
from tracer.handshake.events import Bool, Indexes, has
from tracer.vocabulary.vocabulary import Has, Outcome, Request

SERVERS = PAIRS = 1 << 14
REMEMBER_NS = 3_600_000_000_000
ALWAYS_SENT_DATA = 3

_NEEDS_COOKIE = (Outcome.DATA_ACKED, Outcome.DATA_ACKED_NEW_COOKIE)
# by outcome and whether a cookie was sent: data taken without one does not show that cookies are granted
_WORKS = np.zeros((len(Outcome), 2), np.bool_)
for _outcome in (
    Outcome.COOKIE_GRANTED, Outcome.DATA_NOT_ACKED_NEW_COOKIE, Outcome.DATA_NOT_ACKED_SAME_COOKIE,
    Outcome.COOKIE_ONLY_NEW_COOKIE, Outcome.COOKIE_ONLY_SAME_COOKIE,
):  # fmt: skip
    _WORKS[_outcome] = True
_WORKS[list(_NEEDS_COOKIE), 1] = True
_TAKEN_WITHOUT = np.zeros((len(Outcome), 2), np.bool_)
_TAKEN_WITHOUT[list(_NEEDS_COOKIE), 0] = True


class PeerHistory:
    """Takes and judges handshakes in the order of settling."""

    def __init__(self) -> None:
        self._servers = SlotTable(SERVERS, "works_ns", "cookieless_ns")
        self._pairs = SlotTable(PAIRS, "with_data", "without_data")  # by port, too

    def note(self, tried: Attempts) -> None:
        """Remember what worked."""
        events, rows, outcome = tried.events, tried.rows, tried.outcome
        kind = outcome * np.uint8(2) + tried.with_cookie
        self._note_server(tried, "works_ns", np.flatnonzero(_WORKS.take(kind)))
        cookieless = np.flatnonzero(_TAKEN_WITHOUT.take(kind))
        if len(cookieless):
            granted = has(tried.answers().has[rows[cookieless]], Has.TFO)
            self._note_server(tried, "cookieless_ns", cookieless[~granted])

        passed = (events["syn"]["payload_len"][rows] != 0) & (outcome != Outcome.SYN_TIMEOUT_FALLBACK)
        passed &= has(events["synack"]["has"][rows], Has.SEGMENT)
        bare = tried.request == Request.COOKIE
        told = np.flatnonzero(passed | bare)
        if len(told):
            slots, own = self._pairs.claim(tried.keys.pairs_by_port[rows[told]])
            slots, told = slots[own], told[own]
            passed, bare = passed[told], bare[told]
            np.add.at(self._pairs["with_data"], slots, passed.astype(np.uint64))
            if bare.any():
                np.add.at(self._pairs["without_data"], slots, bare.astype(np.uint64))

    def _note_server(self, tried: Attempts, column: str, at: Indexes) -> None:
        if len(at):
            slots, own = self._servers.claim(tried.keys.listeners[tried.rows[at]])
            np.maximum.at(self._servers[column], slots[own], tried.syn_ns[at[own]])

    def _server_noted(self, tried: Attempts, column: str) -> Bool:
        slots, known = self._servers.find(tried.servers())
        when = self._servers[column][slots]
        noted: Bool = known & (when != 0) & (tried.syn_ns < when + np.uint64(REMEMBER_NS))
        return noted

    def works(self, tried: Attempts) -> Bool:
        """Has this server, at this port, granted or recognised a cookie in the last hour?"""
        return self._server_noted(tried, "works_ns")

    def takes_data_without_cookie(self, tried: Attempts) -> Bool:
        """Has this server, at this port, taken data that came without a cookie?"""
        return self._server_noted(tried, "cookieless_ns")

    def always_sent_data(self, tried: Attempts) -> Bool:
        """Did this pair's cookies for the port come with data several times before, and without only this once?"""
        slots, known = self._pairs.find(tried.keys.pairs_by_port[tried.rows])
        with_data, without = self._pairs["with_data"][slots], self._pairs["without_data"][slots]
        always: Bool = known & (with_data >= ALWAYS_SENT_DATA) & (without <= 1)
        return always
