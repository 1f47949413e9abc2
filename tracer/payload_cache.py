"""SYN payloads that wait for their handshake's record, bounded in bytes: the oldest go first and are counted."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tracer.decode import PayloadKey
from tracer.events import Events, SynPayload

_OVERHEAD = 200  # bytes of Python objects around one payload


class PayloadCache:
    """Payloads by handshake id and first SYN's time."""

    def __init__(self, limit_bytes: int = 8 << 20) -> None:
        self._limit = limit_bytes
        self._held = 0
        self._payloads: dict[PayloadKey, SynPayload] = {}
        self.dropped = 0

    def add(self, payloads: Iterable[SynPayload]) -> None:
        """Keep payloads until their record comes."""
        waiting, held = self._payloads, self._held
        for payload in payloads:
            key = (payload.id, payload.syn_ns)
            if key in waiting:
                held -= len(waiting.pop(key).data) + _OVERHEAD
            waiting[key] = payload
            held += len(payload.data) + _OVERHEAD
            while held > self._limit:
                held -= len(waiting.pop(next(iter(waiting))).data) + _OVERHEAD
                self.dropped += 1
        self._held = held

    def take(self, events: Events) -> dict[PayloadKey, SynPayload]:
        """The payloads of a batch of records, no longer held here."""
        rows = np.flatnonzero(events["syn"]["payload_len"])
        if not len(rows) or not self._payloads:
            return {}
        keys = list(zip(events["id"][rows].tolist(), events["syn_ns"][rows].tolist(), strict=True))
        taken = [self._payloads.pop(key, None) for key in keys]
        found = {key: payload for key, payload in zip(keys, taken, strict=True) if payload is not None}
        self._held -= sum(len(payload.data) + _OVERHEAD for payload in found.values())
        return found
