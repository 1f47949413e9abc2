"""A list of any length with a header and a selected row; it paints only the rows on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from rich.cells import cell_len
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.actions import IN_ROWS
from tui.lines import Line, Part, cell, cut_middle
from tui.paint import Painted, strip

GAP = 1
WHEEL_ROWS = 3
LAST_LEAST = 12  # the last column's minimum width; below it the list scrolls sideways


@dataclass(frozen=True, slots=True)
class ListColumn:
    """A column of `width` cells; the last one takes the rest and shrinks first.

    What is too long is cut at its end; with `middle` in its middle, as addresses are: they end with the port.
    """

    id: str
    title: str
    width: int
    right: bool = False
    middle: bool = False


class RowSource(Protocol):
    """The content of a list. The list calls `cells` at each paint, for the rows on the screen only: keep it cheap."""

    def __len__(self) -> int: ...
    def cells(self, position: int) -> Sequence[Part]:
        """Text and style of each column."""
        ...


class Nothing:
    """The empty source."""

    def __len__(self) -> int:
        return 0

    def cells(self, position: int) -> Sequence[Part]:
        """Never called."""
        raise IndexError(position)


class RowList(ScrollView, Painted, can_focus=True):
    """Shows a source under column headings and keeps the selection on the screen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *IN_ROWS,
        Binding("left", "scroll_left", show=False),
        Binding("right", "scroll_right", show=False),
    ]

    class Moved(Message):
        """The user moved the selection."""

        def __init__(self, position: int) -> None:
            super().__init__()
            self.position = position

    class Opened(Message):
        """A second click on the selected row."""

        def __init__(self, position: int) -> None:
            super().__init__()
            self.position = position

    class Heading(Message):
        """A click on a heading."""

        def __init__(self, column: str) -> None:
            super().__init__()
            self.column = column

    def __init__(self, *, empty: str = "", id: str | None = None) -> None:  # noqa: A002 - Textual's word
        super().__init__(id=id)
        self.columns: Sequence[ListColumn] = ()
        self.sorted_by: tuple[str, bool] = ("", False)
        self.empty = empty
        self.source: RowSource = Nothing()
        self.cursor = 0
        self._height = 0  # of the selected row on the screen, where whoever looks at it left it

    # what is shown

    def set_columns(self, columns: Sequence[ListColumn], sorted_by: tuple[str, bool]) -> None:
        """Set columns and order; `sorted_by` is a column and whether it descends."""
        self.columns, self.sorted_by = tuple(columns), sorted_by
        self._measure()
        self.refresh()

    def show(self, source: RowSource, cursor: int, keep_view: bool) -> None:
        """Show a source with the cursor there; `keep_view`: leave the cursor at its height on the screen."""
        self.source = source
        self.cursor = max(0, min(cursor, len(source) - 1))
        self._measure()
        if keep_view:
            self.scroll_to(y=max(0, self.cursor - self._height), animate=False, force=True)
            self._reveal()
        else:
            self._reveal()
            self._height = self.cursor - self.scroll_offset.y
        self.refresh()

    @property
    def widths(self) -> tuple[int, ...]:
        """How wide the columns are."""
        return tuple(self._widths(max(self.scrollable_content_region.width, self.virtual_size.width)))

    def _measure(self) -> None:
        wanted = sum(column.width + GAP for column in self.columns) - GAP
        if self.columns:
            wanted -= max(0, self.columns[-1].width - LAST_LEAST)
        self.virtual_size = Size(max(1, wanted), len(self.source) + 1)

    @property
    def page_rows(self) -> int:
        """How many rows fit on the screen."""
        return max(1, self.scrollable_content_region.height - 1)

    def _reveal(self) -> None:
        top = self.scroll_offset.y
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False, force=True)
        elif self.cursor >= top + self.page_rows:
            self.scroll_to(y=self.cursor - self.page_rows + 1, animate=False, force=True)

    # painting

    def _widths(self, cells: int) -> list[int]:
        widths = [column.width for column in self.columns]
        if widths:
            spare = cells - sum(widths) - GAP * (len(widths) - 1)
            widths[-1] = max(min(widths[-1], LAST_LEAST), widths[-1] + spare)
        return widths

    def render_line(self, y: int) -> Strip:
        """Paint the heading or a row."""
        cells = self.scrollable_content_region.width
        total = max(cells, self.virtual_size.width)
        left = self.scroll_offset.x
        if y == 0:
            line, over = self._heading(total), None
        else:
            position = y - 1 + self.scroll_offset.y
            if position >= len(self.source):
                text = self.empty if not len(self.source) and y == 2 else ""
                return strip((("  " + text, "dim"),), self.palette, cells)
            line = self._row(position, total)
            over = self._cursor_style() if position == self.cursor else None
        return strip(line, self.palette, total, over).crop(left, left + cells)

    def _heading(self, cells: int) -> Line:
        parts: list[Part] = []
        sort, descending = self.sorted_by
        for column, width in zip(self.columns, self._widths(cells), strict=True):
            is_sorted = column.id == sort
            mark = ("▼" if descending else "▲") if is_sorted else ""
            title = column.title[: max(0, width - len(mark))] + mark
            parts.append((cell(title, width, column.right), "header-sorted" if is_sorted else "header"))
            parts.append((" " * GAP, "header"))
        missing = cells - sum(cell_len(text) for text, _ in parts)
        parts.append((" " * max(0, missing), "header"))
        return tuple(parts)

    def _row(self, position: int, cells: int) -> Line:
        parts: list[Part] = []
        widths = self._widths(cells)
        for (text, style), column, width in zip(self.source.cells(position), self.columns, widths, strict=True):
            shown = cut_middle(text, width) if column.middle else text
            parts.append((cell(shown, width, column.right) + " " * GAP, style))
        return tuple(parts)

    def _cursor_style(self) -> Style:
        return self.palette["cursor" if self.has_focus else "cursor-blur"]

    # moving

    def select(self, position: int) -> None:
        """Move the selection as a user would."""
        position = max(0, min(position, len(self.source) - 1))
        for row in {self.cursor, position} if position != self.cursor else ():
            self.refresh(Region(0, row - self.scroll_offset.y + 1, self.size.width, 1))
        self.cursor = position
        self._reveal()
        self._height = position - self.scroll_offset.y
        self.post_message(self.Moved(position))

    def _wheel(self, event: events.MouseEvent, by: int) -> None:
        """Scroll, and let the selection come along at its height: new rows would bring the view back to it."""
        if event.shift or event.ctrl:
            return
        event.prevent_default()
        event.stop()
        position = max(0, min(self.cursor + by, len(self.source) - 1))
        self.scroll_to(y=max(0, position - (self.cursor - self.scroll_offset.y)), animate=False, force=True)
        self.select(position)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Scroll down."""
        self._wheel(event, WHEEL_ROWS)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Scroll up."""
        self._wheel(event, -WHEEL_ROWS)

    def action_move(self, by: int) -> None:
        """Move one row up or down."""
        self.select(self.cursor + by)

    def action_page(self, by: float) -> None:
        """Move pages up or down."""
        self.select(self.cursor + int(by * self.page_rows))

    def action_first(self) -> None:
        """Move to the top."""
        self.select(0)

    def action_last(self) -> None:
        """Move to the bottom."""
        self.select(len(self.source) - 1)

    def on_click(self, event: events.Click) -> None:
        """Select a row, open the selected one, or sort by a heading."""
        place = event.get_content_offset(self)
        if place is None:
            return
        if place.y == 0:
            column = self._column_at(place.x + self.scroll_offset.x)
            if column is not None:
                self.post_message(self.Heading(column))
            return
        position = place.y - 1 + self.scroll_offset.y
        if position >= len(self.source):
            return
        if position == self.cursor and self.has_focus:
            self.post_message(self.Opened(position))
        else:
            self.select(position)

    def _column_at(self, x: int) -> str | None:
        at = 0
        cells = max(self.scrollable_content_region.width, self.virtual_size.width)
        for column, width in zip(self.columns, self._widths(cells), strict=True):
            at += width + GAP
            if x < at:
                return column.id
        return None
