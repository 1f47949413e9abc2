"""Never more than so many connections a second, of all threads together."""

from __future__ import annotations

import time
from threading import Event, Lock


class Pace:
    """`wait` returns when the next connection may begin; False where the probe is to stop."""

    def __init__(self, rate: float, stop: Event) -> None:
        self._gap_s = 1 / rate
        self._stop = stop
        self._lock = Lock()
        self._next = 0.0

    def wait(self) -> bool:
        """Take the next turn."""
        with self._lock:
            turn = max(self._next, time.monotonic())
            self._next = turn + self._gap_s
        return not self._stop.wait(max(0.0, turn - time.monotonic()))
