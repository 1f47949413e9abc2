"""SYN payloads waiting for their handshake's record, bounded in bytes and time: the oldest are dropped, and counted.

Without a time limit, payloads whose record was lost would stay for ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import numpy as np

from tracer.handshake.batch import PayloadKey
from tracer.handshake.events import Events, SynPayload, among
from tracer.vocabulary.vocabulary import HandshakeResult

_OVERHEAD = 200  # bytes of Python objects around one payload
_AT_ONCE = 1000
# A handshake that failed may go on and get a second record: so many of these payloads stay.
_FAILED_KEPT = 64
_FAILED = among((
    HandshakeResult.REJECTED, HandshakeResult.ABORTED, HandshakeResult.UNREACHABLE, HandshakeResult.NO_REPLY,
))  # fmt: skip
# A record may come as long after its first SYN as Linux retransmits (127 s) and then waits.
WAIT_NS = 300_000_000_000


class PayloadCache:
    """Payloads by handshake id and first SYN's time."""

    def __init__(self, limit_bytes: int = 8 << 20) -> None:
        self._limit = limit_bytes
        self._held = 0
        self._payloads: dict[PayloadKey, SynPayload] = {}
        self._of_failed: dict[PayloadKey, SynPayload] = {}
        self.dropped = 0

    def add(self, payloads: Iterable[SynPayload]) -> None:
        """Keep payloads until their record comes."""
        waiting, held, latest_ns = self._payloads, self._held, 0
        for payload in payloads:
            key = (payload.id, payload.syn_ns)
            latest_ns = payload.syn_ns
            if key in waiting:
                held -= len(waiting.pop(key).data) + _OVERHEAD
            waiting[key] = payload
            held += len(payload.data) + _OVERHEAD
            if held > self._limit:
                # make room for more at once: finding a dict's first key walks over all that were popped before it
                held = self._forget(held, self._limit - self._limit // 8, 0)
        if waiting and next(iter(waiting.values())).syn_ns < latest_ns - WAIT_NS:
            held = self._forget(held, self._limit, latest_ns - WAIT_NS)
        self._held = held

    def _forget(self, held: int, room: int, before_ns: int) -> int:
        """Drop the oldest until at most `room` bytes are left and none is older than `before_ns`; return the rest."""
        waiting = self._payloads
        while waiting:
            for key in list(islice(waiting, _AT_ONCE)):
                if held <= room and key[1] >= before_ns:
                    return held
                held -= len(waiting.pop(key).data) + _OVERHEAD
                self.dropped += 1
        return held

    def take(self, events: Events) -> dict[PayloadKey, SynPayload]:
        """Take out the payloads of a batch of records."""
        if not self._payloads and not self._of_failed:
            return {}
        rows = np.flatnonzero(events["syn"]["payload_len"])
        keys = list(zip(events["id"][rows].tolist(), events["syn_ns"][rows].tolist(), strict=True))
        found, pop = {}, self._payloads.pop
        for key in keys:
            payload = pop(key, None)
            if payload is not None:
                found[key] = payload
                self._held -= len(payload.data) + _OVERHEAD
        for row in np.flatnonzero(events["resumed"][rows]).tolist():
            earlier = self._of_failed.get(keys[row])
            if earlier is not None:
                found[keys[row]] = earlier
        for row in np.flatnonzero(_FAILED.take(events["result"][rows])).tolist()[-_FAILED_KEPT:]:
            if keys[row] in found:
                self._of_failed[keys[row]] = found[keys[row]]
        for key in list(self._of_failed)[:-_FAILED_KEPT]:
            del self._of_failed[key]
        return found
