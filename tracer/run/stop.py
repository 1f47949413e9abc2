"""What ends a run (a signal, --count, a failure), and which of them is the reason."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracer.handshake.batch import Batch
    from tracer.sinks.filtered import RecordFilter


def _has_terminal() -> bool:
    """Is there a controlling terminal? There is none after it hung up."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True


class StopRequest:
    """SIGINT and SIGTERM end the run. A second one ends the process at once.

    SIGHUP does the same, unless there are files to reopen: then it ends the run only if the terminal has gone.
    """

    def __init__(self, *, reopens: bool = False) -> None:
        self.reason: str | None = None
        self.reopen = False  # reset by the code that reopens
        self._reopens = reopens
        self._had_terminal = _has_terminal()

    def install(self) -> None:
        """Handle SIGINT, SIGTERM and SIGHUP; let writes to closed pipes raise instead of killing."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, and background jobs of scripts
                signal.signal(number, self._on_signal)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP and self._reopens and _has_terminal() == self._had_terminal:
            self.reopen = True
            return
        self.reason = signal.Signals(number).name
        signal.signal(number, signal.SIG_DFL)


@dataclass(slots=True)
class Ending:
    """Why a run ends, once something has ended it."""

    reason: str | None = None
    exit_code: int = 0

    def set(self, reason: str, exit_code: int) -> None:
        """The first reason counts. But a failure while ending as asked is still a failure."""
        if self.reason is None or (exit_code and not self.exit_code):
            self.reason, self.exit_code = reason, exit_code


@dataclass(slots=True)
class Quota:
    """--count: how many handshakes are wanted (None: all), after the filter if there is one."""

    count: int | None = None
    record_filter: RecordFilter | None = None
    _taken: int = 0

    def is_met(self, waiting: int = 0) -> bool:
        """Has enough been taken, or will it be with `waiting` more? With a filter these do not count."""
        if self.record_filter is not None:
            waiting = 0
        return self.count is not None and self._taken + waiting >= self.count

    def take(self, batch: Batch) -> Batch:
        """The batch up to the last handshake that is wanted."""
        if self.count is None:
            return batch
        left = self.count - self._taken
        if self.record_filter is None:
            batch = batch.rows(0, left)
            self._taken += len(batch)
        else:
            batch = self.record_filter.until(batch, left)
            self._taken += self.record_filter.passing(batch)
        return batch
