"""One row per address and port of this host that answered SYNs: what its listener made of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tracer.aggregate.counted import Count, Counted
from tracer.aggregate.figures import Listening
from tracer.aggregate.keyindex import ABSENT, END_WORDS, Indexes, KeyIndex, end_keys
from tracer.aggregate.tally import IS_ACCEPTED
from tracer.handshake.events import Bool, has
from tracer.handshake.rows import Rows
from tracer.records.ends import Listener, Process
from tracer.vocabulary.addresses import ip_text
from tracer.vocabulary.vocabulary import HANDSHAKE_CAUSE_WORDS, Cause, HandshakeCause, Has, Outcome, Vantage

LISTENERS_HELD = 1024
_AT_SERVER = Vantage.SERVER  # the bit that SERVER and LOCAL share
# of a listener that has Fast Open; and what is only said of one without it, or of its host
_IS_ON = IS_ACCEPTED.copy()
_IS_ON[[Outcome.COOKIE_GRANTED, Outcome.DATA_PARTLY_ACKED]] = True
_IS_OFF: Bool = np.zeros(len(Cause), np.bool_)
_IS_OFF[[Cause.LISTENER_DISABLED, Cause.SERVER_DISABLED]] = True
_COUNTED = (Count.HANDSHAKES, Count.HANDSHAKES_FAILED, Count.ATTEMPTS, Count.WITH_DATA, Count.LIVED)


class ListenerTable:
    """Listeners that handshakes met, by address and port; the quarter not met for longest is forgotten when it is full.

    A port that nobody has answered at yet is none, so scans do not fill the table.
    """

    def __init__(self, limit: int = LISTENERS_HELD) -> None:
        self._limit = limit
        self._index = KeyIndex(END_WORDS, limit, self._forget)
        self._counts: NDArray[np.int64] = np.zeros((len(_COUNTED), limit), np.int64)
        self._causes: NDArray[np.int64] = np.zeros((limit, len(HandshakeCause)), np.int64)
        self._seen_ns: NDArray[np.int64] = np.zeros(limit, np.int64)
        self._fast_open: dict[int, bool] = {}
        self._processes: dict[int, Process] = {}
        self._queues: dict[int, Listener] = {}

    def add(self, rows: Rows, known: Counted) -> None:
        """Count rows of servers on this host."""
        here = np.flatnonzero((rows.vantage & _AT_SERVER) != 0)
        step = self._limit // 2  # so that making room never removes the keys that need it
        for begin in range(0, len(here), step):
            self._add(rows, known, here[begin : begin + step])

    def _add(self, rows: Rows, known: Counted, here: Indexes) -> None:
        keys = end_keys(rows.events, "server", here)
        queue = rows.causes.listener[here]
        met = has(rows.events["synack"]["has"][here], Has.SEGMENT) | (queue != 0)
        if met.any():
            self._index.place(keys[met])
        slots = self._index.find(keys)
        there = slots != ABSENT
        slots, here, queue, met = slots[there], here[there], queue[there], met[there]
        for row, count in enumerate(_COUNTED):
            self._counts[row] += np.bincount(slots[known.counted[count][here]], minlength=self._limit)
        cause = rows.causes.handshake_cause[here].astype(np.intp)
        why = np.flatnonzero(cause)
        # of exactly this type: with any other numpy takes seventy times as long
        np.add.at(self._causes.reshape(-1), slots[why] * len(HandshakeCause) + cause[why], np.int64(1))
        np.maximum.at(self._seen_ns, slots, rows.events["settled_ns"][here].astype(np.int64))
        on, off = _IS_ON[rows.verdicts.outcome[here]], _IS_OFF[rows.causes.cause[here]]
        said = met & (on | off)
        self._fast_open.update(zip(slots[said].tolist(), on[said].tolist(), strict=True))  # of several the last
        self._remember_owners(rows, slots, here)
        for slot, number in zip(slots[queue != 0].tolist(), queue[queue != 0].tolist(), strict=True):
            told = rows.names.listeners[number]
            if told is not None:
                self._queues[slot] = told

    def _remember_owners(self, rows: Rows, slots: Indexes, here: Indexes) -> None:
        owner = rows.server_owner[here]
        named = np.flatnonzero(owner)
        for slot, place in dict(zip(slots[named].tolist(), owner[named].tolist(), strict=True)).items():
            process = rows.owner_table[place]
            if process is not None:
                self._processes[slot] = process

    def _forget(self, slots: Indexes) -> None:
        self._counts[:, slots] = 0
        self._causes[slots] = 0
        self._seen_ns[slots] = 0
        for slot in slots.tolist():
            for table in (self._fast_open, self._processes, self._queues):
                table.pop(slot, None)

    def listening(self) -> tuple[Listening, ...]:
        """All of them, those with most handshakes first."""
        live = self._index.live()
        slots = live[np.lexsort((-self._seen_ns[live], -self._counts[0, live]))]
        rows = zip(
            slots.tolist(), self._index.keys[slots], *self._counts[:, slots].tolist(),
            self._causes[slots].argmax(axis=1).tolist(), self._seen_ns[slots].tolist(), strict=True,
        )  # fmt: skip
        return tuple(
            Listening(
                ip_text(key[:2].tobytes()), int(key[2]), self._processes.get(slot), handshakes, failed, attempts,
                with_data, lived, HANDSHAKE_CAUSE_WORDS[cause], self._fast_open.get(slot), self._queues.get(slot), seen,
            )
            for slot, key, handshakes, failed, attempts, with_data, lived, cause, seen in rows
        )  # fmt: skip
