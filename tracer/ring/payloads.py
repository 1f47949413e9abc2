"""SYN payloads waiting for their handshake's record, bounded in bytes and time: the oldest are dropped, and counted.

They stay in the pieces of memory in which they came from the ring, until so much of these is done with that the rest is
worth copying. Without a time limit, payloads whose record was lost would stay for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from tracer.handshake.events import Bool, Events, Indexes, among, distinct, pick
from tracer.handshake.syn_payloads import (
    NO_PAYLOADS,
    PayloadBlock,
    PayloadKey,
    Places,
    SynPayload,
    SynPayloads,
    find,
    merged,
    no_places,
)
from tracer.vocabulary.vocabulary import HandshakeResult

_OVERHEAD = 64  # bytes beside one payload
# what is done with may take as much memory as what waits, and so much more
_SLACK = 1 << 19
BLOCKS_MAX = 256
# A handshake that failed may go on and get a second record: so many of these payloads stay.
_FAILED_KEPT = 64
_FAILED = among((
    HandshakeResult.REJECTED, HandshakeResult.ABORTED, HandshakeResult.UNREACHABLE, HandshakeResult.NO_REPLY,
))  # fmt: skip
# A record may come as long after its first SYN as Linux retransmits (127 s) and then waits.
WAIT_NS = 300_000_000_000


class PayloadCache:
    """Payloads by handshake id and first SYN's time; those that wait take at most `limit_bytes`."""

    def __init__(self, limit_bytes: int = 8 << 20) -> None:
        self._limit = limit_bytes
        self._waiting = no_places()
        self._blocks: dict[int, bytes] = {}  # by number: those that came later have higher ones
        self._next = 0
        self._of_failed: dict[PayloadKey, SynPayload] = {}
        self.dropped = 0

    def add(self, blocks: Iterable[PayloadBlock]) -> None:
        """Keep payloads until their record comes."""
        parts = [self._waiting]
        for block in blocks:
            if len(block.ids):
                parts.append(block.places(self._next))
                self._blocks[self._next] = block.memory
                self._next += 1
        if len(parts) == 1:
            return
        latest_ns = int(parts[-1]["syn_ns"][-1])
        self._waiting = merged(parts)
        self._forget(latest_ns - WAIT_NS)
        self._tidy()

    def _forget(self, before_ns: int) -> None:
        """Drop those that are older, then the oldest, until there is room again."""
        old = self._waiting["syn_ns"].astype(np.int64) < before_ns
        if old.any():
            self._drop(old)
        if _bytes(self._waiting) > self._limit:
            order = _by_age(self._waiting)
            # make more room at once, since sorting takes its time
            room = _bytes(self._waiting) - self._limit + self._limit // 8
            held = np.cumsum(self._waiting["captured"][order].astype(np.int64) + _OVERHEAD)
            oldest = np.zeros(len(self._waiting), np.bool_)
            oldest[order[: 1 + int(np.searchsorted(held, room))]] = True
            self._drop(oldest)

    def _drop(self, which: Bool) -> None:
        self._waiting = pick(self._waiting, np.flatnonzero(~which))
        self.dropped += int(np.count_nonzero(which))

    def _tidy(self) -> None:
        """Free the memory of those that have gone."""
        used = distinct(self._waiting["block"]).tolist()
        if len(used) < len(self._blocks):
            self._blocks = {number: self._blocks[number] for number in used}
        if len(used) > BLOCKS_MAX or sum(map(len, self._blocks.values())) > 2 * _bytes(self._waiting) + _SLACK:
            order = _by_age(self._waiting)
            block = PayloadBlock.of([self._at(row) for row in order.tolist()])
            self._waiting, self._blocks = merged([block.places(self._next)]), {self._next: block.memory}
            self._next += 1

    def _at(self, row: int) -> SynPayload:
        place = self._waiting[row]
        start = int(place["start"])
        data = self._blocks[int(place["block"])][start : start + int(place["captured"])]
        return SynPayload(int(place["id"]), int(place["syn_ns"]), int(place["wire_len"]), data)

    def take(self, events: Events) -> SynPayloads:
        """Take out the payloads of a batch of records."""
        if not len(self._waiting) and not self._of_failed:
            return NO_PAYLOADS
        rows = np.flatnonzero(events["syn"]["payload_len"])
        at = find(self._waiting, events["id"][rows], events["syn_ns"][rows])
        goes = np.zeros(len(self._waiting), np.bool_)
        goes[at[at >= 0]] = True
        places, self._waiting = pick(self._waiting, np.flatnonzero(goes)), pick(self._waiting, np.flatnonzero(~goes))
        blocks = {number: self._blocks[number] for number in distinct(places["block"]).tolist()}
        failed, again = _FAILED.take(events["result"][rows]), events["resumed"][rows] != 0
        found = self._with_earlier(SynPayloads(places, blocks), events, rows[again])
        self._keep(found, events, rows[failed][-_FAILED_KEPT:])
        return found

    def _with_earlier(self, found: SynPayloads, events: Events, rows: Indexes) -> SynPayloads:
        """What was found, and what earlier records of these rows' handshakes took."""
        known = [self._of_failed[key] for key in _keys(events, rows) if key in self._of_failed]
        return SynPayloads.joined([found, SynPayloads.of(known)]) if known else found

    def _keep(self, found: SynPayloads, events: Events, rows: Indexes) -> None:
        self._of_failed |= {key: found[key] for key in _keys(events, rows) if key in found}
        for key in list(self._of_failed)[:-_FAILED_KEPT]:
            del self._of_failed[key]


def _keys(events: Events, rows: Indexes) -> Iterator[PayloadKey]:
    return zip(events["id"][rows].tolist(), events["syn_ns"][rows].tolist(), strict=True)


def _bytes(places: Places) -> int:
    return int(places["captured"].sum()) + _OVERHEAD * len(places)


def _by_age(places: Places) -> Indexes:
    """Their indexes in the order in which they came."""
    return np.lexsort((places["start"], places["block"]))
