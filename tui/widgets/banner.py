"""A line for what nobody may overlook: an end before its time, lost handshakes, or that something has broken."""

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


def banner_text(snapshot: Snapshot) -> str:
    """The warning, or an empty string. What is over is not told, nor what broke before a recording's end."""
    stays = "The data stays here until you leave (q)."
    if snapshot.ended is not None and snapshot.replay_of is None:
        return f"Tracing has ended: {snapshot.ended}. {stays}"
    if snapshot.ended is not None and snapshot.ended_early:
        return f"Ended early: {snapshot.ended}. {stays}"
    gone = [interface.name for interface in snapshot.interfaces if not interface.present]
    if gone:
        return f"Interface gone: {', '.join(gone)}."
    lost = losses(snapshot.balance)
    if lost:
        return f"{count(lost)} {plural(lost, 'handshake')} not shown: lost, evicted or suppressed (5 Health says why)."
    return "  ".join(alerts(snapshot)) if snapshot.ended is None else ""


class Banner(Widget):
    """Takes a line only if there is a warning."""

    def __init__(self) -> None:
        super().__init__()
        self.display = False
        self._text = ""

    def put(self, snapshot: Snapshot) -> None:
        """Show the warning, if any."""
        text = safe(banner_text(snapshot))
        if text != self._text:
            self._text = text
            self.display = bool(text)
            self.refresh()

    def render_line(self, y: int) -> Strip:  # noqa: ARG002 - one line only
        """Paint the line."""
        return strip(((" ! " + cut(self._text, self.size.width - 4), "alarm"),), styles_of(self), self.size.width)
