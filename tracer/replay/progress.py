"""Shows the progress of a long replay in one line of the terminal, which disappears at the end."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from typing import TextIO

EVERY_S = 0.1
_WIDTH = 30


def _terminal() -> TextIO | None:
    """Standard error if it is a terminal, unless the dashboard or text output uses the same one."""
    wanted = sys.stderr.isatty() and not sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    return sys.stderr if wanted else None


@dataclass(slots=True)
class Progress:
    """`total`: what `show` counts up to, None if unknown. `unit`: what the count beside it counts."""

    total: int | None
    unit: str
    stream: TextIO | None = field(default_factory=_terminal)  # None: draw nothing
    _next: float = 0.0
    _drawn: bool = False

    def show(self, done: int, count: int) -> None:
        """Draw, at most ten times a second."""
        if self.stream is None:
            return
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + EVERY_S
        text = f"{count:,} {self.unit}"
        if self.total:
            share = min(1.0, done / self.total)
            filled = int(share * _WIDTH)
            text = f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {share:4.0%}  {text}"
        self._write(f"\r\x1b[K{text}")
        self._drawn = True

    def clear(self) -> None:
        """Erase the line: before anything else is written there, and at the end."""
        if self._drawn:
            self._write("\r\x1b[K")
            self._drawn = False

    def _write(self, text: str) -> None:
        assert self.stream is not None
        try:
            self.stream.write(text)
            self.stream.flush()
        except (OSError, ValueError):
            self.stream = None  # the terminal has gone
