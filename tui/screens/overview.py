"""1 Overview: does Fast Open work, what fails and why, and since when?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from tracer.aggregate.aggregate import losses
from tracer.aggregate.history import Window
from tracer.aggregate.reasons import most_frequent
from tracer.aggregate.tally import PART
from tracer.store.snapshot import Snapshot
from tracer.words.reasons import told, track_words
from tui.format import count, share
from tui.headline import headline_lines
from tui.lines import Line, Part, cut, safe, some_of, width
from tui.moments import title_of_window, window_words
from tui.screens.base import TracerScreen
from tui.why import arranged, why_entries
from tui.widgets.comparison import comparison_lines
from tui.widgets.histogram import histogram_lines, quantile_line
from tui.widgets.panel import Panel
from tui.widgets.shares import share_lines
from tui.widgets.timeline import HANDSHAKES, WORKED, Track, timeline_lines
from tui.widgets.way_panel import WayPanel

_EDGES = 2  # cells of a panel beside its lines
_WIDE = 150  # cells from which the comparison stands beside shares and RTT
_HIGH = 30  # rows from which no line is saved
_COMPARE = 5  # rows of the comparison where it stands below


class Overview(TracerScreen):
    """The answer, why, since when, and the figures behind it."""

    NAME = "overview"
    AUTO_FOCUS = "#why"

    def __init__(self) -> None:
        super().__init__()
        self.answer = Panel(id="answer")
        self.why = WayPanel(id="why")
        self.time = Panel("Over time", id="time")
        self.shares = Panel(id="shares")
        self.rtt = Panel("Handshake RTT, all", id="rtt")
        self.beside = Panel("First response: TFO against normal, all", id="compare-beside")
        self.compare = Panel("First response: TFO against normal, all", id="compare")
        self.state = Panel(id="state")
        self.row = Horizontal(self.shares, self.rtt, self.beside, id="overview-row")
        self.column = Vertical(self.answer, self.why, self.time, self.row, self.compare, self.state, id="overview")

    def body(self) -> Iterable[Widget]:
        """Panels below each other, some of them side by side."""
        yield self.column

    def update(self, snapshot: Snapshot) -> None:
        """Give each panel its place and its lines."""
        wide, high = self.column.size
        cells = wide - _EDGES
        if cells < 1 or high < 1:
            return
        window = self.shell.window
        words = window_words(window, snapshot)
        answer = headline_lines(snapshot, window, cells, brief=high < _HIGH)
        entries = why_entries(snapshot, window, cells)
        plan = planned(wide, high, len(answer), sum(one.height for one in entries))
        self._arrange(plan, wide)
        self.answer.entitle(words[:1].upper() + words[1:])
        self.answer.put(answer)
        self.why.entitle(title_of_window("Why, and what to do", window, snapshot, cells))
        self.why.put_ways(*arranged(entries, plan.why - 1, self.why.way))
        if plan.time:
            self.time.put(_plots(snapshot, window, cells, plan.time - 1))
        if plan.row:
            side, rows = wide // plan.beside - _EDGES, plan.row - 1
            self.shares.entitle(title_of_window("Fast Open, and failures", window, snapshot, side))
            self.shares.put(share_lines(snapshot.history.totals(window), side, rows))
            self.rtt.put(rtt_lines(snapshot, side, rows))
            if plan.beside == 3:
                self.beside.put(comparison_lines(snapshot.comparisons, side, rows))
        if plan.compare:
            self.compare.put(comparison_lines(snapshot.comparisons, cells, plan.compare - 1))
        self.state.put(state_lines(snapshot, cells)[: plan.state])

    def _arrange(self, plan: Plan, wide: int) -> None:
        for widget, rows, gap in (
            (self.answer, plan.answer, 0), (self.why, plan.why, plan.gap), (self.time, plan.time, plan.gap),
            (self.row, plan.row, plan.gap), (self.compare, plan.compare, plan.gap), (self.state, plan.state, plan.gap),
        ):  # fmt: skip
            _size(widget, wide, rows)
            widget.styles.margin = (gap, 0, 0, 0)
        for number, widget in enumerate((self.shares, self.rtt, self.beside)):
            _size(widget, wide // plan.beside, plan.row if number < plan.beside else 0)

    def on_way_panel_moved(self) -> None:
        """The remedy of the selected reason is never left out."""
        if self.snapshot is not None:
            self.update(self.snapshot)


def _size(widget: Widget, cells: int, rows: int) -> None:
    """Give a widget its size; one without rows is hidden."""
    widget.display = bool(rows)
    widget.styles.width, widget.styles.height = cells, rows


@dataclass(frozen=True, slots=True)
class Plan:
    """The rows of each part, headings among them; `beside`: how many panels stand in the row."""

    answer: int
    why: int
    time: int = 0
    row: int = 0
    beside: int = 2
    compare: int = 0
    state: int = 0
    gap: int = 0  # above each part but the first


def planned(cells: int, rows: int, answer: int, why: int) -> Plan:
    """What fits, by rank: the answer, why, the plots, the state of tracing, then shares and RTT, the comparison.

    `answer` and `why` are the lines that these have to say.
    """
    first = min(rows, answer + 1)
    state = 1 if rows >= 20 else 0
    gap = 1 if rows >= 45 else 0
    left = rows - first - state - 5 * gap
    time = min(16, max(min(7, left - 5), left // 4)) if left >= 11 else 0
    left -= time
    spare = left - min(why + 1, max(7, left // 2))
    beside = 3 if cells >= _WIDE else 2 if cells >= 72 else 1
    row = min(spare, 14) if spare >= 6 else 0
    below = _COMPARE if beside < 3 and row >= _COMPARE + 6 else 0
    left -= row
    # what nobody needs makes first the plots higher, then panels and plots
    unused = max(0, left - why - 1) if time else 0
    higher = min(max(0, unused - (16 - time)) // 2, 24 - row) if row else 0
    time += unused - higher
    return Plan(first, left - unused, time, row + higher - below, beside, below, state, gap)


def _plots(snapshot: Snapshot, window: Window, cells: int, rows: int) -> list[Line]:
    """Handshakes, how many SYNs with data worked, and the hour's most frequent reasons with the window's numbers."""
    lanes = max(1, min(max(4, rows // 4), rows - 3))
    found = most_frequent(snapshot.history, Window.HOUR, 400)
    shown = found if len(found) <= lanes else found[: lanes - 1]
    rest = found[len(shown) :]
    within = snapshot.history.sums(window)
    tracks = [HANDSHAKES, WORKED]
    tracks += [
        Track(track_words(one), told(one).group, (one.cell,), told=count(int(within[one.cell]))) for one in shown
    ]
    if rest:
        words = f"{len(rest)} other reasons" if shown else f"{len(rest)} reasons"
        cells_of_rest = [one.cell for one in rest]
        tracks.append(Track(words, "failed", cells_of_rest, told=count(int(within[cells_of_rest].sum()))))
    left = rows - 1 - len(tracks) + 2
    worked = left // 2 if snapshot.history.sums(Window.HOUR)[PART["with_data"]].any() else 1
    heights = [left - worked, worked, *[1] * (len(tracks) - 2)]
    return timeline_lines(snapshot.history, tracks, heights, cells, at_rest=snapshot.at_rest)


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


def _interfaces(snapshot: Snapshot, cells: int) -> Line:
    """Each with its hook, or some of them where there is no room; a file's name is in the tab bar."""
    if snapshot.replay_of is not None:
        return ()
    each: list[Part] = []
    for one in snapshot.interfaces:
        not_now = "" if one.present else " (not now)"
        each += ((f"   {safe(one.name)} ", "text"), (f"by {one.hook}{not_now}", "dim"))
    if width(tuple(each)) <= cells:
        return tuple(each)
    by = f"by {', '.join(sorted({one.hook for one in snapshot.interfaces}))}"
    names = some_of([one.name for one in snapshot.interfaces], cells - len(by) - 4)
    some: Line = ((f"   {names} ", "text"), (by, "dim"))
    return some if width(some) <= cells else ()


def state_lines(snapshot: Snapshot, cells: int) -> list[Line]:
    """The hooks, how full the table is, and whether anything was lost."""
    balance = snapshot.balance
    fill = share(balance.still_open, snapshot.table_size) if snapshot.table_size else "-"
    crowded = snapshot.table_size and balance.still_open > snapshot.table_size * 0.8
    lost = losses(balance)
    table: Line = (
        ("   table ", "dim"),
        (f"{count(balance.still_open)} open, {fill}", "alarm" if crowded else "text"),
    )
    parts: list[Part] = [(f"LOST {count(lost)}" if lost else "nothing lost", "alarm" if lost else "dim")]
    if lost:
        terms = (("ring", balance.lost), ("table", balance.evicted), ("flood", balance.suppressed),
                 ("not written", balance.dropped))  # fmt: skip
        where: Part = (f" ({', '.join(f'{name} {count(value)}' for name, value in terms if value)})", "text")
        parts += [where] if width((*parts, where, *table)) <= cells else []
    parts += table
    lines: list[Line] = [(*parts, *_interfaces(snapshot, cells - width(tuple(parts))))]
    if snapshot.notices:
        lines.append(((cut("notice: " + safe(snapshot.notices[-1].text), cells), "degraded"),))
    return lines
