"""Lines for what nobody may overlook: an end before its time, lost handshakes, or that something has broken."""

from __future__ import annotations

from textual.strip import Strip
from textual.widget import Widget

from tracer.aggregate.aggregate import losses
from tracer.store.snapshot import Snapshot
from tracer.vocabulary.printable import plural
from tui.alerts import alerts
from tui.format import count
from tui.lines import cut, safe
from tui.paint import strip, styles_of

_MARGIN = 4  # cells beside the text


def banner_lines(snapshot: Snapshot, cells: int = 400) -> list[str]:
    """The warning in lines of so many cells. What is over is not told, nor what broke before a recording's end."""
    broken = alerts(snapshot, cells) if snapshot.ended is None else []
    own = _of_the_tracer(snapshot)
    return [cut(safe(line), cells) for line in (*broken, *([own] if own else []))]


def _of_the_tracer(snapshot: Snapshot) -> str:
    stays = "The data stays here until you leave (q)."
    if snapshot.ended is not None and snapshot.replay_of is None:
        return f"Tracing has ended: {snapshot.ended}. {stays}"
    if snapshot.ended is not None and snapshot.ended_early:
        return f"Ended early: {snapshot.ended}. {stays}"
    missing = [interface.name for interface in snapshot.interfaces if not interface.present]
    if missing:  # it has gone, or somebody has removed our programs from it
        return f"Not traced now: {', '.join(missing)} (5 Health says why)."
    lost = losses(snapshot.balance)
    if lost:
        return f"{count(lost)} {plural(lost, 'handshake')} not shown: lost, evicted or suppressed (5 Health says why)."
    return ""


class Banner(Widget):
    """Takes lines only if there is a warning."""

    def __init__(self) -> None:
        super().__init__()
        self.display = False
        self._lines: list[str] = []

    def put(self, snapshot: Snapshot) -> None:
        """Show the warning, if any."""
        lines = banner_lines(snapshot, self.screen.size.width - _MARGIN)
        if lines != self._lines:
            self._lines = lines
            self.display = bool(lines)
            self.styles.height = len(lines)
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """Paint a line."""
        text = self._lines[y] if y < len(self._lines) else ""
        return strip(((f" ! {text}", "alarm"),), styles_of(self), self.size.width)
