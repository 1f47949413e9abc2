"""When to read the ring again: the kernel wakes nobody, so this delays records, but each reading has a cost."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tracer.ring.drain import BATCH_BYTES
from tracer.ring.ringbuf import Ring

POLL_MS = 40
POLL_GENTLY_MS = 100  # if only a screen reads, or nobody: the payload ring holds 80 ms at 100,000 per second
SOON_MS = 2
PART = 4
SOON_RECORDS = 2000
GATHER_MS = 150  # records that come fast are gathered for so long at most
PEEK_MS = 50  # meanwhile the ring is looked at this often
FEW_BYTES = 200 << 10  # some 450 records: fewer are not gathered


class Pace:
    """Reads sooner if more than a quarter of the ring (8 MiB: 19,000 records) comes in `poll_ms`.

    `gathers`: nobody waits for single records. Those that come fast are then left in the ring until they make a full
    batch, for whatever is done with records has a cost for each batch.
    """

    def __init__(self, ring: Ring | None, beside: Sequence[Ring] = ()) -> None:
        """`ring` has the records, and is None with the perf buffer; those `beside` it must not fill up either."""
        self.poll_ms = POLL_MS
        self.gathers = False
        self._ring = ring
        self._beside = beside
        self._last_s = time.monotonic()
        self._wait_ms = 0
        self._position = 0

    def rest_ms(self) -> int:
        """How many milliseconds to go on waiting, after a wait that a message may have cut short. 0: read now."""
        ring = self._ring
        if ring is None or not self.gathers:
            return 0
        elapsed_ms = (time.monotonic() - self._last_s) * 1000
        if elapsed_ms < self._wait_ms:
            return max(1, int(self._wait_ms - elapsed_ms))
        fill = ring.fill
        # what there would be when we look again
        then = fill * (elapsed_ms + PEEK_MS) / max(elapsed_ms, 1)
        if elapsed_ms >= GATHER_MS or not FEW_BYTES <= fill <= then <= BATCH_BYTES:
            return 0
        return PEEK_MS if all(one.fill < one.size // 2 for one in self._beside) else 0

    def wait_ms(self, count: int) -> int:
        """How long to wait after a reading that found `count` records."""
        self._wait_ms = self._next_ms(count)
        return self._wait_ms

    def _next_ms(self, count: int) -> int:
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
