"""The top line: the five screens, interfaces or file, the running time, and whether the view is frozen."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from tracer.store.snapshot import Snapshot
from tui.actions import MAIN, TITLES, UNDER
from tui.format import clock, count
from tui.lines import Line, Part, cut_middle, safe, some_of, width
from tui.paint import strip, styles_of

_SHORT = {"overview": "Over", "handshakes": "Hands", "peers": "Peers", "statistics": "Stats", "health": "Health"}


_NAMES_MAX, _FILE_MAX, _FILE_SHORT = 24, 40, 13  # cells


def _forms(snapshot: Snapshot, paused: bool, new: int) -> Sequence[tuple[bool, Line]]:
    """Whether the titles are short, and the right end: the longest form first."""
    stopped = f" paused +{count(new)} new " if snapshot.moment is None else f" at {snapshot.moment}{_held(snapshot)} "
    states: list[Part] = [(stopped, "inverse")] if paused else []
    time: Part = (f"{clock((snapshot.taken_ns - snapshot.started_ns) / 1e9)} ", "dim")
    if snapshot.replay_of is not None:
        return _replay_forms(snapshot, states, time)
    if snapshot.ended is not None:
        states.append((" ended ", "inverse"))
    names = some_of([interface.name for interface in snapshot.interfaces], _NAMES_MAX)
    hooks = ",".join(sorted({interface.hook for interface in snapshot.interfaces}))
    brief: Line = (*states, (" ", "text"), time)
    full: Line = (*states, (f" {names} {hooks} ", "text"), time)
    return [(False, full), (False, brief), (True, brief)]


def _held(snapshot: Snapshot) -> str:
    return "" if snapshot.held is None else f", list and peers of {count(snapshot.held)} held"


def _replay_forms(snapshot: Snapshot, states: list[Part], time: Part) -> Sequence[tuple[bool, Line]]:
    """A replay rather has short titles than no name: nobody should take it for what happens now."""
    name = safe(snapshot.replay_of or "")
    ends: tuple[Line, Line] = ((), ())
    if snapshot.ended is not None:
        is_read = not snapshot.ended_early and snapshot.ended != "count"
        words = (" end of the file ", " end of file ") if is_read else (" ended ", " ended ")
        ends = (((words[0], "inverse"),), ((words[1], "inverse"),))
    long: Part = (f" replay {cut_middle(name, _FILE_MAX)} ", "text")
    short: Part = (f" replay {cut_middle(name, _FILE_SHORT)} ", "text")
    full: Line = (*states, *ends[0], long, time)
    brief: Line = (*states, *ends[1], short)
    return [
        (False, full), (True, full), (True, (*states, *ends[0], long)), (True, (*brief, time)), (True, brief),
        (True, (*ends[1], short)), (True, (*states, *ends[1])),
    ]  # fmt: skip


class TabBar(Widget):
    """One line; a click on a title shows that screen."""

    class Chosen(Message):
        """A title was clicked."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, current: str) -> None:
        super().__init__()
        self._current = UNDER.get(current, current)
        self._forms: Sequence[tuple[bool, Line]] = ()

    def put(self, snapshot: Snapshot, paused: bool, new: int) -> None:
        """Update the right end."""
        forms = _forms(snapshot, paused, new)
        if forms != self._forms:
            self._forms = forms
            self.refresh()

    def _titles(self, short: bool) -> list[tuple[str, Part]]:
        words = _SHORT if short else TITLES
        return [
            (name, (f" {number} {words[name]} ", "inverse" if name == self._current else "text"))
            for number, name in enumerate(MAIN, start=1)
        ]

    def _layout(self, cells: int) -> tuple[list[tuple[str, Part]], Line]:
        """The first form that fits."""
        for short, right in self._forms:
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
