"""The bottom line: as many keys of this screen as fit, the most important first, and always ? and q."""

from __future__ import annotations

from typing import cast

from textual import events
from textual.strip import Strip
from textual.widget import Widget

from tui.actions import ALWAYS, Action, footer_of
from tui.lines import Part
from tui.paint import strip, styles_of
from tui.shell import Shell


class FooterBar(Widget):
    """One line; a click works like the key."""

    def __init__(self, screen_name: str) -> None:
        super().__init__()
        self._screen_name = screen_name

    def _shown(self, cells: int) -> list[tuple[Action, str, str]]:
        def texts(one: Action) -> tuple[Action, str, str]:
            return one, f" {one.shown}", f" {one.title} "

        def room(entries: list[tuple[Action, str, str]]) -> int:
            return sum(len(key) + len(title) for _, key, title in entries)

        actions = footer_of(self._screen_name, cast("Shell", self.app).actions)
        always = [texts(one) for one in actions if one.id in ALWAYS]
        left = cells - room(always)
        shown: list[tuple[Action, str, str]] = []
        for one in actions:
            entry = texts(one)
            if one.id in ALWAYS or room([entry]) > left:
                break
            left -= room([entry])
            shown.append(entry)
        return [*shown, *always]

    def render_line(self, y: int) -> Strip:  # noqa: ARG002 - one line only
        """Paint the line."""
        parts: list[Part] = []
        for _, key, title in self._shown(self.size.width):
            parts += [(key, "key"), (title, "text")]
        return strip(tuple(parts), styles_of(self), self.size.width)

    async def on_click(self, event: events.Click) -> None:
        """Run the action under the mouse."""
        at = 0
        for one, key, title in self._shown(self.size.width):
            at += len(key) + len(title)
            if event.x < at:
                await self.screen.run_action(one.run)
                return
