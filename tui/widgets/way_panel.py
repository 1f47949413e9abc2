"""A panel whose lines lead to handshakes: a peer, a cause, a listener."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import BindingType
from textual.message import Message
from textual.strip import Strip

from tui.actions import IN_ROWS
from tui.lines import EMPTY, Line
from tui.paint import strip
from tui.widgets.panel import Panel


class WayPanel(Panel):
    """Has a selected line. Each line may have a filter, which finds the handshakes that it stands for.

    Neighbours with the same filter are selected together, and the first of them is marked. The selection stays with its
    filter when lines change places, or on the first line.
    """

    BINDINGS: ClassVar[list[BindingType]] = [*IN_ROWS]

    class Moved(Message):
        """Another line is selected."""

    def __init__(self, title: str = "", *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(title, id=id)
        self.cursor = 0
        self._ways: Sequence[str | None] = ()

    @property
    def way(self) -> str | None:
        """The filter of the selected line."""
        return self._ways[self.cursor] if self.cursor < len(self._ways) else None

    def put_ways(self, lines: Sequence[Line], ways: Sequence[str | None]) -> None:
        """Show lines, each with its filter; lines beyond `ways` have none."""
        marked = self._marked
        before = self.way if self.cursor > 0 else None
        self._ways = tuple(ways)
        if before is not None and before in self._ways:
            self.cursor = self._ways.index(before)
        self.cursor = max(0, min(self.cursor, len(self._ways) - 1))
        self.put(lines)
        if self._marked != marked:
            self._paint_again((marked, self._marked))

    @property
    def _marked(self) -> int:
        """The line that is marked; -1 if none is."""
        return self.cursor if self.has_focus and self.way is not None else -1

    def render_line(self, y: int) -> Strip:
        """Paint one line of the screen; the selected one is marked while the panel has the focus."""
        at = y + self.scroll_offset.y
        if at != self._marked:
            return super().render_line(y)
        line = self._lines[at] if at < len(self._lines) else EMPTY
        styles = self.palette
        return strip(line, styles, self.scrollable_content_region.width, styles["cursor-blur"])

    def _way_at(self, at: int) -> str | None:
        return self._ways[at] if 0 <= at < len(self._ways) else None

    def _select(self, at: int) -> None:
        """Select a line and its neighbours with the same filter, and show all of them that fit."""
        marked = self._marked
        first = max(0, min(at, len(self._ways) - 1))
        way = self._way_at(first)
        while way is not None and self._way_at(first - 1) == way:
            first -= 1
        last = first
        while way is not None and self._way_at(last + 1) == way:
            last += 1
        self.cursor = first
        top, rows = self.scroll_offset.y, max(1, self.room[1])
        if first < top or last >= top + rows:
            self.scroll_to(y=first if first < top else min(first, last - rows + 1), animate=False, force=True)
        if self._marked != marked:
            self._paint_again((marked, self._marked))
        self.post_message(self.Moved())

    def action_move(self, by: int) -> None:
        """Select what is above or below."""
        at = self.cursor + by
        while self.way is not None and self._way_at(at) == self.way:
            at += by
        self._select(at)

    def action_page(self, by: float) -> None:
        """Select a line that is pages away."""
        self._select(self.cursor + int(by * max(1, self.room[1])))

    def action_first(self) -> None:
        """Select the first line."""
        self._select(0)

    def action_last(self) -> None:
        """Select the last line that leads anywhere."""
        self._select(len(self._ways) - 1)

    async def on_click(self, event: events.Click) -> None:
        """Select a line; a click on the selected one works like enter."""
        place = event.get_content_offset(self)
        if place is None:
            return
        at = place.y + self.scroll_offset.y
        if self.has_focus and self.way is not None and self._way_at(at) == self.way:
            await self.screen.run_action("follow_way")
        elif at < len(self._ways):
            self._select(at)
