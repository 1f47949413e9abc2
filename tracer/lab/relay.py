"""A long way between two tun devices: each packet leaves the other device after a fixed delay, in order.

For kernels without netem. Packets of a tun device are whole: the kernel has made their checksums and cut them to size.
"""

from __future__ import annotations

import os
import select
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

QUEUED = 1000  # packets of a direction: what comes on top is lost, as at a router
_PACKET_MAX = 65536
_AT_ONCE = 64  # packets of a direction: then the others have their turn


@dataclass(slots=True)
class Lane:
    """One direction: descriptors of the two devices, and the delay in seconds. The descriptors do not block."""

    source: int
    target: int
    delay_s: float
    waiting: deque[tuple[float, bytes]] = field(default_factory=deque)  # when to send, what

    def take(self, now: float) -> None:
        """Read what has come. Raises OSError if the device has gone."""
        for _ in range(_AT_ONCE):
            try:
                packet = os.read(self.source, _PACKET_MAX)
            except BlockingIOError:
                return
            if len(self.waiting) < QUEUED:
                self.waiting.append((now + self.delay_s, packet))

    def send(self, now: float) -> None:
        """Send what is due. A packet that the other device does not take is lost."""
        while self.waiting and self.waiting[0][0] <= now:
            with suppress(OSError):
                os.write(self.target, self.waiting.popleft()[1])


class Relay:
    """All lanes, served by one thread, which sleeps until a packet comes or is due."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._lanes = lanes

    def run(self) -> None:
        """Relay until a device goes: raises OSError."""
        while True:
            self.turn()

    def turn(self) -> None:
        """Wait for one packet to come or to be due, and do what can be done without waiting."""
        due = min((lane.waiting[0][0] for lane in self._lanes if lane.waiting), default=None)
        wait_s = None if due is None else max(0.0, due - time.monotonic())
        ready, _, _ = select.select([lane.source for lane in self._lanes], [], [], wait_s)
        now = time.monotonic()
        for lane in self._lanes:
            if lane.source in ready:
                lane.take(now)
            lane.send(now)
