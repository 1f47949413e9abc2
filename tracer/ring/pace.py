"""When to read the ring again: the kernel wakes nobody, so this delays records, but each reading has a cost."""

from __future__ import annotations

import time

from tracer.ring.drain import BATCH_BYTES
from tracer.ring.ringbuf import Ring

POLL_MS = 40
POLL_GENTLY_MS = 100  # if only a screen reads, or nobody: the payload ring holds 80 ms at 100,000 per second
SOON_MS = 2
PART = 4
SOON_RECORDS = 2000


class Pace:
    """Reads sooner if more than a quarter of the ring (8 MiB: 19,000 records) comes in `poll_ms`."""

    def __init__(self, ring: Ring | None) -> None:
        """`ring` is None with the perf buffer."""
        self.poll_ms = POLL_MS
        self._ring = ring
        self._last_s = time.monotonic()
        self._position = 0

    def wait_ms(self, count: int) -> int:
        """How long to wait after a reading that found `count` records."""
        ring = self._ring
        if ring is None:  # a small one for each CPU
            return SOON_MS if count >= SOON_RECORDS else self.poll_ms
        if ring.fill >= BATCH_BYTES:
            return 0
        now, position = time.monotonic(), ring.consumed
        elapsed_ms, came = (now - self._last_s) * 1000, position - self._position
        self._last_s, self._position = now, position
        if came * self.poll_ms * PART <= ring.size * elapsed_ms:
            return self.poll_ms
        return max(SOON_MS, int(ring.size * elapsed_ms / (came * PART)))
