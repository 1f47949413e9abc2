"""Cookies that arrive at this host, and the root part's verdicts on them; the keys themselves never come here.

A cookie depends only on the two addresses and the key, so returning clients are answered from memory. The port, whose
listener may have a key of its own, and the fate of the cookie (was it accepted, which one came back) are part of the
key in memory: if they change, we ask again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.causes.attempts import Attempts
from tracer.causes.slot_table import SlotTable
from tracer.handshake.events import U8, Indexes, byte_rows, has, pick
from tracer.handshake.outcome import cookie_rows, first_cookie_rows
from tracer.ipc.messages import CookieQuestion, HostAnswer
from tracer.vocabulary.vocabulary import CookieCheck, CookieOrigin, Has

REMEMBERED = 1 << 16
QUESTIONS_MAX = 256  # at a time: the root part has other work to do
ASK_AGAIN_S = np.uint32(10)
_NS_PER_S = np.uint64(1_000_000_000)


@dataclass(frozen=True, slots=True)
class Asked:
    """Rows of a batch whose cookies we ask the root part about, their keys in memory, and which question is theirs."""

    rows: Indexes
    keys: NDArray[np.uint64]
    syn_ns: NDArray[np.uint64]
    numbers: Indexes
    questions: list[CookieQuestion]


class CookieChecks:
    """Memory of the root part's verdicts."""

    def __init__(self) -> None:
        self._known = SlotTable(REMEMBERED, verdict=np.uint8, origin=np.uint8, seen_s=np.uint32)
        self._key_changes: int | None = None

    def begin(self, sent: Attempts, checks: U8, origins: U8) -> Asked | None:
        """Fill in the verdicts that we remember; return the questions about other cookies, None if there are none.

        `checks` are CookieCheck numbers, `origins` CookieOrigin numbers; there is one of each for a row of the batch.
        """
        rows, keys = sent.rows, sent.fates()
        slots, known = self._known.find(keys)
        verdicts, seen_s = self._known["verdict"][slots], self._known["seen_s"][slots]
        # an unknown verdict may become known after a while
        known &= (verdicts != CookieCheck.NONE) | (sent.syn_ns // _NS_PER_S < seen_s + ASK_AGAIN_S)
        checks[rows[known]] = verdicts[known]
        origins[rows[known]] = self._known["origin"][slots[known]]
        missing = np.flatnonzero(~known)
        if not len(missing):
            return None
        # one question for all equal keys, in the order in which they first appear
        _, firsts, places = np.unique(keys[missing], return_index=True, return_inverse=True)
        order = np.argsort(firsts)
        numbers = np.empty(len(order), np.intp)
        numbers[order] = np.arange(len(order))
        asked = missing[firsts[order]][:QUESTIONS_MAX]
        events = pick(sent.events, rows[asked])
        questions = [
            CookieQuestion(*one)
            for one in zip(
                byte_rows(events["client"]), byte_rows(events["server"]),
                _carried(events["syn"]["has"], cookie_rows(events["syn"])),
                _carried(sent.answers().has[rows[asked]], first_cookie_rows(events)),
                sent.accepted[asked].tolist(), events["syn_ns"].tolist(), events["server_port"].tolist(), strict=True,
            )
        ]  # fmt: skip
        return Asked(rows[missing], keys[missing], sent.syn_ns[missing], numbers[places], questions)

    def end(self, asked: Asked, answer: HostAnswer, checks: U8, origins: U8) -> None:
        """Fill in the answers, in the order of the questions; unanswered ones stay unknown."""
        number = asked.numbers
        answered = number < len(answer.checks)
        if not answered.any():
            return
        rows = asked.rows[answered]
        checks[rows] = np.array(answer.checks, np.uint8)[number[answered]]
        told = [*answer.origins, *[CookieOrigin.UNKNOWN] * len(answer.checks)]
        origins[rows] = np.array(told, np.uint8)[number[answered]]
        slots, own = self._known.claim(asked.keys[answered])
        self._known["verdict"][slots[own]] = checks[rows[own]]
        self._known["origin"][slots[own]] = origins[rows[own]]
        self._known["seen_s"][slots[own]] = asked.syn_ns[answered][own] // _NS_PER_S

    def keys_changed(self, changes: int) -> None:
        """Forget everything if the host's keys changed."""
        if self._key_changes is not None and changes != self._key_changes:
            self._known.clear()
        self._key_changes = changes


def _carried(flags: NDArray[np.uint16], cookies: list[bytes]) -> list[bytes]:
    return [cookie if there else b"" for cookie, there in zip(cookies, has(flags, Has.TFO).tolist(), strict=True)]
