"""Cookies that arrive at this host, and the root part's verdicts on them; the keys themselves never come here.

A cookie depends only on the two addresses and the key, so returning clients are answered from memory. The fate of the
cookie (was it accepted, which one came back) is part of the key in memory: if it changes, we ask again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.causes.attempts import Attempts
from tracer.causes.slot_table import SlotTable
from tracer.handshake.events import U8, Events, Indexes, byte_rows, has, pick
from tracer.handshake.outcome import cookie_rows
from tracer.ipc.messages import CookieQuestion
from tracer.vocabulary.vocabulary import CookieCheck, Has

REMEMBERED = 1 << 16
QUESTIONS_MAX = 256  # at a time: the root part has other work to do
ASK_AGAIN_NS = 10_000_000_000


@dataclass(frozen=True, slots=True)
class Asked:
    """Rows of a batch whose cookies we ask the root part about, and their keys in memory."""

    rows: Indexes
    keys: NDArray[np.uint64]
    syn_ns: NDArray[np.uint64]
    questions: list[CookieQuestion]


class CookieChecks:
    """Memory of the root part's verdicts."""

    def __init__(self) -> None:
        self._known = SlotTable(REMEMBERED, "verdict", "seen_ns")
        self._key_changes: int | None = None

    def begin(self, sent: Attempts, checks: U8) -> Asked | None:
        """Fill in the verdicts that we remember; return the questions about other cookies, None if there are none."""
        rows, events = sent.rows, sent.events
        keys = sent.fates()
        slots, known = self._known.find(keys)
        verdicts, seen_ns = self._known["verdict"][slots], self._known["seen_ns"][slots]
        # an unknown verdict may become known after a while
        known &= (verdicts != CookieCheck.NONE) | (events["syn_ns"] < seen_ns + np.uint64(ASK_AGAIN_NS))
        checks[rows[known]] = verdicts[known]
        missing = np.flatnonzero(~known)
        if not len(missing):
            return None
        # one question for all equal keys
        _, firsts = np.unique(keys[missing], return_index=True)
        asked = missing[np.sort(firsts)][:QUESTIONS_MAX]
        events = pick(events, asked)
        questions = [
            CookieQuestion(*one)
            for one in zip(
                byte_rows(events["client"]), byte_rows(events["server"]),
                _cookies(events["syn"]), _cookies(events["synack"]),
                sent.accepted[asked].tolist(), events["syn_ns"].tolist(), strict=True,
            )
        ]  # fmt: skip
        return Asked(rows[missing], keys[missing], sent.events["syn_ns"][missing], questions)

    def end(self, asked: Asked, verdicts: list[int], checks: U8) -> None:
        """Fill in the answers, in the order of the questions; unanswered ones stay unknown."""
        _, firsts, places = np.unique(asked.keys, return_index=True, return_inverse=True)
        # questions are in the order in which their keys first appear
        order = np.argsort(np.argsort(firsts))
        number = order[places]
        answered = number < len(verdicts)
        if not answered.any():
            return
        found = np.array(verdicts, np.uint8)[number[answered]]
        checks[asked.rows[answered]] = found
        slots, own = self._known.claim(asked.keys[answered])
        self._known["verdict"][slots[own]] = found[own]
        self._known["seen_ns"][slots[own]] = asked.syn_ns[answered][own]

    def keys_changed(self, changes: int) -> None:
        """Forget everything if the host's keys changed."""
        if self._key_changes is not None and changes != self._key_changes:
            self._known.clear()
        self._key_changes = changes


def _cookies(segment: Events) -> list[bytes]:
    carried = has(segment["has"], Has.TFO).tolist()
    return [cookie if there else b"" for cookie, there in zip(cookie_rows(segment), carried, strict=True)]
