"""The top line: the five screens, the traced interfaces, the running time, and whether the view is frozen."""

from __future__ import annotations

from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from tracer.store.snapshot import Snapshot
from tui.actions import MAIN, TITLES
from tui.format import clock, count
from tui.lines import Line, Part, cell, safe, width
from tui.paint import strip, styles_of

_SHORT = {"overview": "Over", "handshakes": "Hands", "peers": "Peers", "statistics": "Stats", "health": "Health"}


class TabBar(Widget):
    """One line; a click on a title shows that screen."""

    class Chosen(Message):
        """A title was clicked."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, current: str) -> None:
        super().__init__()
        self._current = current
        self._right: Line = ()
        self._short_right: Line = ()

    def put(self, snapshot: Snapshot, paused: bool, new: int) -> None:
        """Update the right end."""
        states: list[Part] = []
        if paused:
            states.append((f" paused +{count(new)} new ", "inverse"))
        if snapshot.ended is not None:
            states.append((" ended ", "inverse"))
        names = ",".join(safe(interface.name) for interface in snapshot.interfaces)
        hooks = ",".join(sorted({interface.hook for interface in snapshot.interfaces}))
        run_time = clock((snapshot.taken_ns - snapshot.started_ns) / 1e9)
        right: Line = (*states, (f" {cell(names, min(24, len(names)))} {hooks} ", "text"), (f"{run_time} ", "dim"))
        if right != self._right:
            self._right = right
            self._short_right = (*states, (f" {run_time} ", "dim"))
            self.refresh()

    def _titles(self, short: bool) -> list[tuple[str, Part]]:
        words = _SHORT if short else TITLES
        return [
            (name, (f" {number} {words[name]} ", "inverse" if name == self._current else "text"))
            for number, name in enumerate(MAIN, start=1)
        ]

    def _layout(self, cells: int) -> tuple[list[tuple[str, Part]], Line]:
        """The longest form that fits."""
        right: Line
        for short, right in ((False, self._right), (False, self._short_right), (True, self._short_right), (True, ())):
            titles = self._titles(short)
            if sum(len(part[0]) for _, part in titles) + width(right) <= cells:
                return titles, right
        return self._titles(True), ()

    def render_line(self, y: int) -> Strip:  # noqa: ARG002 - one line only
        """Paint the line."""
        cells = self.size.width
        titles, right = self._layout(cells)
        used = sum(len(part[0]) for _, part in titles)
        gap = max(0, cells - used - width(right))
        return strip((*(part for _, part in titles), (" " * gap, "text"), *right), styles_of(self), cells)

    def on_click(self, event: events.Click) -> None:
        """Find the title under the mouse."""
        at = 0
        for name, (text, _) in self._layout(self.size.width)[0]:
            at += len(text)
            if event.x < at:
                self.post_message(self.Chosen(name))
                return
