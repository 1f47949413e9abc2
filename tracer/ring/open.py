"""Map the buffers that the root part passes, before privileges are dropped: read-only except for the consumer's
position."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from tracer.ipc.event_header import struct
from tracer.ipc.layout import to_dtype
from tracer.ipc.messages import Ready
from tracer.ring.drain import (
    BATCH_MEMORY,
    EventSource,
    PayloadSource,
    PerfEvents,
    PerfPayloads,
    RingEvents,
    RingPayloads,
)
from tracer.ring.perfbuf import PAGE, PerfRing
from tracer.ring.ringbuf import Ring
from tracer.vocabulary.vocabulary import Transport


@dataclass(frozen=True, slots=True)
class Sources:
    """Where records, payloads, packets (if asked for) and the kernel's words on drops come from.

    `ring` is that of the records, `beside` has the other rings: none with the perf buffer.
    """

    events: EventSource
    payloads: PayloadSource
    ring: Ring | None
    packets: EventSource | None = None
    drops: EventSource | None = None
    beside: Sequence[Ring] = ()


def open_sources(ready: Ready, fds: list[int]) -> Sources:
    """Map what `ready` describes; the descriptors are closed, the mappings stay."""
    dtype = to_dtype(struct("handshake_event"))
    of_packets = to_dtype(struct("packet_event", packets=True)) if ready.packet_ring_bytes else None
    if ready.transport is Transport.RING:
        ring = Ring(fds[0], ready.event_ring_bytes)
        heard = ready.evidence.ring_bytes
        beside = [Ring(fds[1], ready.payload_ring_bytes)]
        payloads, packets, drops = RingPayloads(beside[0]), None, None
        if of_packets is not None:
            beside.append(Ring(fds[2], ready.packet_ring_bytes))
            packets = RingEvents(beside[-1], of_packets)
        if heard:
            beside.append(Ring(fds[-1], heard))
            drops = RingEvents(beside[-1], to_dtype(struct("drop_event")))
        sources = Sources(RingEvents(ring, dtype, BATCH_MEMORY), payloads, ring, packets, drops, beside)
        for fd in fds:
            os.close(fd)
        return sources
    cpus = len(fds) // (2 if of_packets is None else 3)
    sizes = (ready.event_ring_bytes, ready.payload_ring_bytes, ready.packet_ring_bytes)
    rings = [[PerfRing(fd, size // PAGE) for fd in fds[i * cpus : (i + 1) * cpus]] for i, size in enumerate(sizes)]
    return Sources(
        PerfEvents(rings[0], dtype), PerfPayloads(rings[1]), None,
        PerfEvents(rings[2], of_packets) if of_packets is not None else None,
    )  # fmt: skip
