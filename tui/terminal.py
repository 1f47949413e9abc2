"""Use standard output as the terminal, so that standard error can go to a file; notice when the terminal goes away."""

from __future__ import annotations

import os
import select
import signal
import sys
from io import TextIOWrapper
from typing import IO, cast

from textual.app import App
from textual.drivers._writer_thread import MAX_QUEUED_WRITES
from textual.drivers.linux_driver import LinuxDriver
from textual.geometry import Size

PATIENCE_S = 2.0  # at the end, with a terminal that takes nothing


class Output:
    """Standard output for Textual's writing thread, which would die of an error, and everything wait for it."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self.is_gone = False

    def write(self, text: str) -> None:
        """Write, or discard it if the terminal has gone."""
        if not self.is_gone:
            try:
                self._file.write(text)
            except OSError:
                self.give_up()

    def flush(self) -> None:
        """Flush, or discard what is buffered if the terminal has gone."""
        if not self.is_gone:
            try:
                self._file.flush()
            except OSError:
                self.give_up()

    def fileno(self) -> int:
        """Return the file's descriptor."""
        return self._file.fileno()

    def give_up(self) -> None:
        """Write nothing more."""
        self.is_gone = True
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._file.fileno())  # Python's shutdown flushes what is still buffered
        os.close(null)


class StdoutDriver(LinuxDriver):
    """Textual's own driver writes to standard error, and goes on without a terminal."""

    def __init__(
        self, app: App[object], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        stdout = sys.__stdout__
        assert stdout is not None  # the dashboard is shown on a terminal only
        stdout.reconfigure(errors="replace")  # do not fail on a character that the terminal's encoding lacks
        self._output = Output(stdout)
        self._file = cast("TextIOWrapper", self._output)

    @property
    def terminal_size(self) -> Size:
        """Columns and rows now."""
        return Size(*self._get_terminal_size())

    @property
    def is_gone(self) -> bool:
        """Has the terminal gone away? Only its session's leader gets a SIGHUP then, if it is anybody's at all."""
        poll = select.poll()
        poll.register(self.fileno, 0)  # a hangup is told without asking
        return self._output.is_gone or bool(poll.poll(0))

    def start_application_mode(self) -> None:
        """Take over the terminal."""
        super().start_application_mode()  # type: ignore[no-untyped-call]
        if self._writer_thread is not None:
            # the app looks at is_behind instead: if it waited for the terminal, it would hear no signal
            self._writer_thread._queue.maxsize = 0

    @property
    def is_behind(self) -> bool:
        """Is the terminal slow, or does nobody read from it?"""
        return self._writer_thread is not None and self._writer_thread._queue.qsize() > MAX_QUEUED_WRITES

    def close(self) -> None:
        """Write what is left; give up if nobody reads it."""
        thread = self._writer_thread
        if thread is None:
            return
        thread._queue.put(None)
        thread.join(PATIENCE_S)
        if thread.is_alive():
            self._output.give_up()
            if os.isatty(2):
                os.dup2(1, 2)  # the summary would wait for a reader too
            signal.signal(signal.SIGURG, lambda *_: None)
        while thread.is_alive() and thread.ident is not None:
            signal.pthread_kill(thread.ident, signal.SIGURG)  # a write that waits for a reader begins anew, elsewhere
            thread.join(0.05)

    def run_input_thread(self) -> None:
        """Read keys as long as there is a terminal."""
        try:
            super().run_input_thread()
        except OSError:
            if not self.is_gone:
                raise
