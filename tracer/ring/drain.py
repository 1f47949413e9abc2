"""From the kernel's buffers to numpy batches: the hot path, with no Python object for a handshake.

`EventSource.read()` gives structured arrays of handshake records (dtype of struct handshake_event),
`PayloadSource.read()` the few variable-sized payloads. Both copy out of the shared pages and release the room at
once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from tracer.handshake.events import Events, Indexes
from tracer.handshake.recycled import Recycled
from tracer.handshake.syn_payloads import PayloadBlock
from tracer.ipc.event_header import struct
from tracer.ipc.layout import to_dtype
from tracer.ring.perfbuf import SAMPLE_DATA_OFFSET, SAMPLE_KIND, PerfRing, sample_size, samples
from tracer.ring.ringbuf import BUSY, DISCARDED, HEADER, LENGTH, WORD, Ring, padded

_PAYLOAD = struct("payload_event")
_DATA_AT = _PAYLOAD.field("data").offset
_HEAD = to_dtype(_PAYLOAD.head("data"))
# Some 4,400 records: what is done once for each batch then costs little beside what is done for each record. The limit
# keeps a batch near the processor's cache while it is judged, and below allocator.MMAP_FROM, so that it causes no page
# fault every 4 KiB.
BATCH_BYTES = 1900 << 10
ROOM_BYTES = BATCH_BYTES * 5 // 4  # for a batch and what has waited for the kernel's words
BATCH_MEMORY = Recycled(3)  # for batches: one that is read, one that is judged, one that waits for its processes
GIVE_BACK = 192 << 10  # bytes of payloads to read before releasing them; below allocator.MMAP_SHOWN_FROM too


class EventSource(Protocol):
    """Where batches of records come from."""

    def read(self) -> Events: ...


class PayloadSource(Protocol):
    """Where SYN payloads come from."""

    def read(self) -> Iterator[PayloadBlock]: ...


class RingEvents:
    """Fixed-size records from the BPF ring: a batch is one strided view of the mapped pages, copied once."""

    def __init__(self, ring: Ring, dtype: np.dtype[Any], memory: Recycled | None = None) -> None:
        """`memory`: for batches whose reader soon lets go of them."""
        self._ring = ring
        self._dtype = dtype
        self._stride = padded(dtype.itemsize)
        self._memory = memory or Recycled(1)
        # as plain bytes: numpy copies a structure field by field, which is ten times slower
        self._slot = np.dtype({"names": ["length", "event"], "formats": ["<u4", f"V{dtype.itemsize}"],
                               "offsets": [0, HEADER], "itemsize": self._stride})  # fmt: skip

    def read(self) -> Events:
        """The records that are complete now, in the order of the ring; at most BATCH_BYTES."""
        ring = self._ring
        begin, end = ring.consumed, ring.produced()
        count = min(end - begin, BATCH_BYTES) // self._stride
        if not count:
            return np.empty(0, self._dtype)
        slots = np.frombuffer(ring.data, self._slot, count, begin & ring.mask)
        lengths = slots["length"]
        busy = lengths & np.uint32(BUSY) != 0
        if busy.any():
            count = int(busy.argmax())
            slots, lengths = slots[:count], lengths[:count]
        ring.barrier()
        dropped = lengths & np.uint32(DISCARDED) != 0
        found = slots["event"][~dropped] if dropped.any() else slots["event"]
        size = self._dtype.itemsize
        events = self._memory.take(len(found) * size, ROOM_BYTES).view(found.dtype)
        events[:] = found
        ring.release(begin + count * self._stride)
        return events.view(self._dtype)


class RingPayloads:
    """Variable-size payload records from the second BPF ring."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring

    def read(self) -> Iterator[PayloadBlock]:
        """Every payload that is complete now."""
        ring = self._ring
        position, end = ring.consumed, ring.produced()
        while position < end:
            places, after = self._complete(position, min(end, position + GIVE_BACK))
            ring.barrier()
            offset = position & ring.mask
            memory = bytes(ring.data[offset : offset + after - position])
            ring.release(after)
            if places:
                yield _block(memory, np.array(places, np.intp))
            if after < position + GIVE_BACK:
                break
            position = after

    def _complete(self, position: int, end: int) -> tuple[list[int], int]:
        """Where in this stretch records begin, up to the first that is still being written; the end."""
        data, mask, word_at, places = self._ring.data, self._ring.mask, WORD.unpack_from, []
        behind = HEADER - position
        while position < end:
            (word,) = word_at(data, position & mask)
            if word & BUSY:
                break
            if not word & DISCARDED:
                places.append(position + behind)
            position += padded(word & LENGTH)
        return places, position


def _block(memory: bytes, starts: Indexes) -> PayloadBlock:
    """Payload records in one piece of memory, which begin at multiples of 8."""
    words = np.frombuffer(memory, np.uint64, len(memory) // 8)
    heads = words[starts[:, np.newaxis] // 8 + np.arange(_DATA_AT // 8)].view(_HEAD).reshape(-1)
    return PayloadBlock(
        memory, heads["id"].copy(), heads["syn_ns"].copy(), starts + _DATA_AT, heads["captured"].astype(np.uint32),
        heads["len"].astype(np.uint32),
    )  # fmt: skip


class PerfEvents:
    """Fixed-size records from the perf rings of all CPUs."""

    def __init__(self, rings: list[PerfRing], dtype: np.dtype[Any]) -> None:
        self._rings = rings
        self._dtype = dtype
        self._stride = sample_size(dtype.itemsize)
        self._slot = np.dtype({"names": ["kind", "event"], "formats": ["<u4", dtype],
                               "offsets": [0, SAMPLE_DATA_OFFSET], "itemsize": self._stride})  # fmt: skip

    def read(self) -> Events:
        """Every record written so far, CPU by CPU."""
        parts = [self._decode(taken) for ring in self._rings if (taken := ring.take())]
        if not parts:
            return np.empty(0, self._dtype)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _decode(self, taken: bytes) -> Events:
        if len(taken) % self._stride == 0:
            slots = np.frombuffer(taken, self._slot)
            if (slots["kind"] == SAMPLE_KIND).all():
                return slots["event"].copy()
        size = self._dtype.itemsize  # PERF_RECORD_LOST between the samples
        return np.frombuffer(b"".join(bytes(sample[:size]) for sample in samples(taken)), self._dtype)


class PerfPayloads:
    """Payloads from the perf rings of all CPUs."""

    def __init__(self, rings: list[PerfRing]) -> None:
        self._rings = rings

    def read(self) -> Iterator[PayloadBlock]:
        """Every payload written so far."""
        for ring in self._rings:
            records = [bytes(sample) + bytes(-len(sample) % 8) for sample in samples(ring.take())]
            if records:
                yield _block(b"".join(records), np.cumsum([0, *map(len, records[:-1])]))
