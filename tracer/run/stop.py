"""When a run ends: signals that ask for it."""

from __future__ import annotations

import os
import signal
from types import FrameType


def _has_terminal() -> bool:
    """Is there a controlling terminal? After it hung up there is none any more."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True


class StopRequest:
    """SIGINT and SIGTERM as a reason to end. A second one ends the process at once.

    So is SIGHUP, unless there are files to close and open again: then it is one only if the terminal has gone.
    """

    def __init__(self, *, reopens: bool = False) -> None:
        self.reason: str | None = None
        self.reopen = False  # asked to; set back by who does it
        self._reopens = reopens
        self._had_terminal = _has_terminal()

    def install(self) -> None:
        """Take over SIGINT, SIGTERM and SIGHUP; writes to closed pipes raise instead of killing."""
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
