"""Use standard output as the terminal, so that standard error can go to a file; notice when the terminal goes away."""

from __future__ import annotations

import os
import select
import sys
from io import TextIOWrapper
from typing import IO, cast

from textual.app import App
from textual.drivers.linux_driver import LinuxDriver
from textual.geometry import Size


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
                self._give_up()

    def flush(self) -> None:
        """Flush, or discard what is buffered if the terminal has gone."""
        if not self.is_gone:
            try:
                self._file.flush()
            except OSError:
                self._give_up()

    def fileno(self) -> int:
        """Return the file's descriptor."""
        return self._file.fileno()

    def _give_up(self) -> None:
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

    def run_input_thread(self) -> None:
        """Read keys as long as there is a terminal."""
        try:
            super().run_input_thread()
        except OSError:
            if not self.is_gone:
                raise
