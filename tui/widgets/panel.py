"""A framed pane of lines; overview, statistics, health and detail consist of these."""

from __future__ import annotations

from collections.abc import Sequence

from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.lines import EMPTY, Line
from tui.paint import strip, styles_of


class Panel(ScrollView, can_focus=True):
    """Paints its lines, and scrolls if they do not fit. It contains no other widgets."""

    def __init__(self, title: str = "", *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.border_title = title
        self._lines: Sequence[Line] = ()

    @property
    def lines(self) -> Sequence[Line]:
        """The lines shown."""
        return self._lines

    @property
    def room(self) -> tuple[int, int]:
        """Columns and rows that can be filled without scrolling."""
        size = self.scrollable_content_region.size
        return size.width, size.height

    def put(self, lines: Sequence[Line]) -> None:
        """Show these lines; free if they are already shown."""
        if lines == self._lines:
            return
        grown = len(lines) != len(self._lines)
        self._lines = lines
        if grown:
            self.virtual_size = Size(self.scrollable_content_region.width, len(lines))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Paint one line of the screen."""
        at = y + self.scroll_offset.y
        line = self._lines[at] if at < len(self._lines) else EMPTY
        return strip(line, styles_of(self), self.scrollable_content_region.width)
