"""1 Overview: does Fast Open work, for whom, what does it save, what fails?"""

from __future__ import annotations

from collections.abc import Iterable

from textual.containers import Grid
from textual.widget import Widget

from tracer.aggregate.aggregate import losses
from tracer.store.snapshot import Snapshot
from tui.format import count, share
from tui.headline import headline_lines
from tui.lines import Line, Part, cut, safe
from tui.screens.base import TracerScreen
from tui.widgets.comparison import comparison_lines
from tui.widgets.histogram import histogram_lines, quantile_line
from tui.widgets.panel import Panel
from tui.widgets.shares import share_lines
from tui.widgets.sparkline import framed_plot


class Overview(TracerScreen):
    """The answer, and the figures behind it."""

    NAME = "overview"

    def __init__(self) -> None:
        super().__init__()
        self.answer = Panel("Is TCP Fast Open working?", id="answer")
        self.rates = Panel("Handshakes per second", id="rates")
        self.shares = Panel("TFO outcomes, and failures", id="shares")
        self.rtt = Panel("Handshake RTT", id="rtt")
        self.compare = Panel("First response: TFO against normal", id="compare")
        self.state = Panel("Tracing", id="state")

    def body(self) -> Iterable[Widget]:
        """Panels in a grid."""
        yield Grid(self.answer, self.rates, self.shares, self.rtt, self.compare, self.state, id="overview-grid")

    def update(self, snapshot: Snapshot) -> None:
        """Update every panel."""
        cells, _ = self.answer.room
        self.answer.put(headline_lines(snapshot, cells))
        cells, rows = self.rates.room
        if cells:
            self.rates.put(framed_plot(snapshot.history.seconds("handshakes", cells), cells, max(1, rows), "accent"))
        cells, rows = self.shares.room
        self.shares.put(share_lines(snapshot.totals, cells, rows))
        cells, rows = self.rtt.room
        self.rtt.put(rtt_lines(snapshot, cells, rows))
        cells, rows = self.compare.room
        self.compare.put(comparison_lines(snapshot.comparisons, cells, max(2, rows)))
        self.state.border_title = "Tracing" if snapshot.replay_of is None else "Replay"
        cells, rows = self.state.room
        self.state.put(state_lines(snapshot, cells))


def rtt_lines(snapshot: Snapshot, cells: int, rows: int) -> list[Line]:
    """Median and tail, then the distribution; the TFO part of each bar has its own fill."""
    rtt = snapshot.distributions.rtt
    if not int(rtt.counts.sum()):
        return [(("no RTT measured yet", "dim"),)]
    head = quantile_line(snapshot.distributions.rtt_quantiles, cells - 16 if cells >= 44 else cells)
    if cells >= 44:
        head = (*head, ("  █", "tfo"), (" TFO ", "dim"), ("▒", "normal"), (" all", "dim"))
    if rows < 3:
        return [head]
    return [head, *histogram_lines(rtt, cells, rows - 1, "normal", part=snapshot.distributions.rtt_tfo)]


def state_lines(snapshot: Snapshot, cells: int) -> list[Line]:
    """The hooks, how full the table is, and whether anything was lost."""
    balance = snapshot.balance
    parts: list[Part] = []
    for interface in snapshot.interfaces[:3]:
        gone = "" if interface.present else " (gone)"
        parts += [(f"{safe(interface.name)} ", "strong"), (f"by {interface.hook}{gone}   ", "text")]
    fill = share(balance.still_open, snapshot.table_size) if snapshot.table_size else "-"
    crowded = snapshot.table_size and balance.still_open > snapshot.table_size * 0.8
    parts += [("table ", "dim"), (f"{count(balance.still_open)} open, {fill}   ", "alarm" if crowded else "text")]
    lost = losses(balance)
    parts.append((f"LOST {count(lost)} " if lost else "nothing lost", "alarm" if lost else "ok"))
    if lost:
        parts.append((f"(ring {balance.lost}, table {balance.evicted}, flood {balance.suppressed}, "
                      f"not written {balance.dropped})", "text"))  # fmt: skip
    lines: list[Line] = [tuple(parts)]
    if snapshot.notices:
        lines.append(((cut("notice: " + safe(snapshot.notices[-1].text), cells), "degraded"),))
    return lines
