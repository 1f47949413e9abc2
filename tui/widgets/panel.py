"""A framed pane of lines; overview, statistics, health and detail consist of these."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.actions import SkipAction
from textual.binding import BindingType
from textual.containers import ScrollableContainer
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from tui.actions import IN_LINES
from tui.lines import EMPTY, Line
from tui.paint import Painted, strip


class HalfPages(Widget):
    """Scrolls by half a page as well."""

    def action_half_page(self, by: int) -> None:
        """Scroll up or down; what cannot scroll leaves the key to what it stands in."""
        if not self.allow_vertical_scroll:
            raise SkipAction
        self.scroll_relative(y=by * max(1, self.scrollable_content_region.height // 2))


class PanelGrid(ScrollableContainer, HalfPages, can_focus=False):
    """Panels that may be more than fit: scrolls where the focused panel does not."""

    BINDINGS: ClassVar[list[BindingType]] = [*IN_LINES]


class Panel(ScrollView, HalfPages, Painted, can_focus=True):
    """Paints its lines, and scrolls if they do not fit. It contains no other widgets."""

    BINDINGS: ClassVar[list[BindingType]] = [*IN_LINES]

    def __init__(self, title: str = "", *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._title = title
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

    def entitle(self, title: str) -> None:
        """Set the title; free if it is the same."""
        if title != self._title:
            self._title = title
            self.border_title = title

    def put(self, lines: Sequence[Line]) -> None:
        """Show these lines, and paint those that differ from the ones shown."""
        before, self._lines = self._lines, lines
        if len(lines) != len(before):
            self.virtual_size = Size(self.scrollable_content_region.width, len(lines))
        self._paint_again(
            at
            for at in range(max(len(lines), len(before)))
            if at >= len(lines) or at >= len(before) or lines[at] != before[at]
        )

    def _paint_again(self, numbers: Iterable[int]) -> None:
        """Paint those of these lines that are on the screen."""
        changed = list(numbers)
        if not changed:
            return
        top, (wide, high) = self.scroll_offset.y, self.room
        regions = [Region(0, at - top, wide, 1) for at in changed if 0 <= at - top < high]
        if regions:
            self.refresh(*regions)

    def render_line(self, y: int) -> Strip:
        """Paint one line of the screen."""
        at = y + self.scroll_offset.y
        line = self._lines[at] if at < len(self._lines) else EMPTY
        return strip(line, self.palette, self.scrollable_content_region.width)
