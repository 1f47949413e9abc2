"""A panel whose lines lead to handshakes: a peer, a cause, a listener."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import BindingType
from textual.strip import Strip

from tui.actions import IN_ROWS
from tui.lines import EMPTY, Line
from tui.paint import strip, styles_of
from tui.widgets.panel import Panel


class WayPanel(Panel):
    """Has a selected line. Each line may have a filter, which finds the handshakes that it stands for.

    The selection stays with its filter when lines change places.
    """

    BINDINGS: ClassVar[list[BindingType]] = [*IN_ROWS]

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
        before = self.way
        self._ways = tuple(ways)
        if before is not None and before in self._ways:
            self.cursor = self._ways.index(before)
        self.cursor = max(0, min(self.cursor, len(self._ways) - 1))
        self.put(lines)

    def render_line(self, y: int) -> Strip:
        """Paint one line of the screen; the selected one is marked while the panel has the focus."""
        at = y + self.scroll_offset.y
        if not self.has_focus or at != self.cursor or self.way is None:
            return super().render_line(y)
        line = self._lines[at] if at < len(self._lines) else EMPTY
        styles = styles_of(self)
        return strip(line, styles, self.scrollable_content_region.width, styles["cursor"])

    def _select(self, at: int) -> None:
        self.cursor = max(0, min(at, len(self._ways) - 1))
        top, rows = self.scroll_offset.y, max(1, self.room[1])
        if not top <= self.cursor < top + rows:
            self.scroll_to(y=self.cursor if self.cursor < top else self.cursor - rows + 1, animate=False, force=True)
        self.refresh()

    def action_move(self, by: int) -> None:
        """Select a line above or below."""
        self._select(self.cursor + by)

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
        if at == self.cursor and self.has_focus:
            await self.screen.run_action("follow_way")
        elif at < len(self._ways):
            self._select(at)
