"""Map the buffers that the root part hands over: before privileges are dropped, and all of them read-only but for
the one word that gives room back."""

from __future__ import annotations

import os
from dataclasses import dataclass

from tracer.drain import EventSource, PayloadSource, PerfEvents, PerfPayloads, RingEvents, RingPayloads
from tracer.layout import to_dtype
from tracer.perf_ring import PAGE, PerfRing
from tracer.protocol import Ready
from tracer.ring import Ring
from tracer.vocabulary import Transport


@dataclass(frozen=True, slots=True)
class Sources:
    """Where records and payloads come from. `ring` is None with the perf buffer."""

    events: EventSource
    payloads: PayloadSource
    ring: Ring | None


def open_sources(ready: Ready, fds: list[int]) -> Sources:
    """Map what `ready` describes; the descriptors are closed, the mappings stay."""
    dtype = to_dtype(ready.layout.nested("event"))
    if ready.transport is Transport.RING:
        ring = Ring(fds[0], ready.event_ring_bytes)
        sources = Sources(RingEvents(ring, dtype), RingPayloads(Ring(fds[1], ready.payload_ring_bytes)), ring)
        for fd in fds:
            os.close(fd)
        return sources
    half = len(fds) // 2
    events = [PerfRing(fd, ready.event_ring_bytes // PAGE) for fd in fds[:half]]
    payloads = [PerfRing(fd, ready.payload_ring_bytes // PAGE) for fd in fds[half:]]
    return Sources(PerfEvents(events, dtype), PerfPayloads(payloads), None)
