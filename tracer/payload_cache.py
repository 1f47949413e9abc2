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
        for payload in payloads:
            again = self._payloads.pop((payload.id, payload.syn_ns), None)
            if again is not None:
                self._held -= len(again.data) + _OVERHEAD
            self._payloads[payload.id, payload.syn_ns] = payload
            self._held += len(payload.data) + _OVERHEAD
            while self._held > self._limit:
                oldest = next(iter(self._payloads))
                self._held -= len(self._payloads.pop(oldest).data) + _OVERHEAD
                self.dropped += 1

    def take(self, events: Events) -> dict[PayloadKey, SynPayload]:
        """The payloads of a batch of records, no longer held here."""
        rows = np.flatnonzero(events["syn"]["payload_len"])
        found: dict[PayloadKey, SynPayload] = {}
        if not len(rows) or not self._payloads:
            return found
        for key in zip(events["id"][rows].tolist(), events["syn_ns"][rows].tolist(), strict=True):
            payload = self._payloads.pop(key, None)
            if payload is not None:
                self._held -= len(payload.data) + _OVERHEAD
                found[key] = payload
        return found
