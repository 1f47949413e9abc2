"""The terminal is standard output, so that standard error may go to a file."""

from __future__ import annotations

import sys

from textual.app import App
from textual.drivers.linux_driver import LinuxDriver
from textual.geometry import Size


class StdoutDriver(LinuxDriver):
    """Textual's own writes to standard error."""

    def __init__(
        self, app: App[object], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        if sys.__stdout__ is not None:
            # a character that the terminal does not have is no reason to end
            sys.__stdout__.reconfigure(errors="replace")
            self._file = sys.__stdout__

    @property
    def terminal_size(self) -> Size:
        """Columns and rows now."""
        return Size(*self._get_terminal_size())
