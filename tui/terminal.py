"""Use standard output as the terminal, so that standard error can go to a file."""

from __future__ import annotations

import sys

from textual.app import App
from textual.drivers.linux_driver import LinuxDriver
from textual.geometry import Size


class StdoutDriver(LinuxDriver):
    """Textual's own driver writes to standard error."""

    def __init__(
        self, app: App[object], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        if sys.__stdout__ is not None:
            # do not fail on a character that the terminal's encoding lacks
            sys.__stdout__.reconfigure(errors="replace")
            self._file = sys.__stdout__

    @property
    def terminal_size(self) -> Size:
        """Columns and rows now."""
        return Size(*self._get_terminal_size())
