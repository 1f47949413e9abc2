"""4 Statistics: rates over time, results and causes, distributions of RTT, MSS, window, options and names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from textual.widget import Widget

from tracer.aggregate.figures import Histogram, Quantiles
from tracer.records.run import Totals
from tracer.store.snapshot import Snapshot
from tracer.vocabulary.fates import FAILED_WORDS, brief_cause, failed_words
from tracer.vocabulary.in_words import in_words
from tracer.vocabulary.vocabulary import After, word
from tui.format import count, share, size
from tui.lines import Line, cell, safe
from tui.moments import title_of_window
from tui.screens.base import TracerScreen
from tui.widgets.bar import bar
from tui.widgets.histogram import histogram_lines, quantile_line
from tui.widgets.panel import Panel, PanelGrid
from tui.widgets.timeline import ATTEMPTS, FAILED, timeline_lines
from tui.widgets.way_panel import WayPanel

ROOMY = 8  # lines of a panel: then a second one of quantiles
_UNUSED = word(After.CLOSED_UNUSED)
_AFTER = {
    word(one): text
    for one, text in (
        (After.RESPONSE, "response"), (After.RESET_BY_SERVER, "server reset"), (After.RESET_BY_CLIENT, "client reset"),
        (After.CLOSED_UNUSED, "closed unused"), (After.CLIENT_CLOSED, "client closed"),
        (After.SERVER_CLOSED, "server closed"), (After.SYNACK_AGAIN, "SYN-ACK again"), (After.SILENCE, "silence"),
    )
}  # fmt: skip


class Statistics(TracerScreen):
    """Thirteen panels."""

    NAME = "statistics"

    def __init__(self) -> None:
        super().__init__()
        self.rates = Panel("TFO attempts", id="stat-attempts")
        self.failed = Panel("Failed: handshakes, Fast Open", id="stat-failed")
        self.results = WayPanel(id="stat-results")
        self.causes = WayPanel(id="stat-causes")
        self.tfo_causes = WayPanel(id="stat-tfo-causes")
        self.rtt = Panel("RTT, all", id="stat-rtt")
        self.response = Panel("First response, all", id="stat-response")
        self.after = Panel(id="stat-after")
        self.mss = Panel("MSS of SYNs, all", id="stat-mss")
        self.wscale = Panel("Window scale, all", id="stat-wscale")
        self.window = Panel("Window (unscaled), all", id="stat-window")
        self.options = Panel("Options of SYNs, all", id="stat-options")
        self.names = Panel("Names (SNI, HTTP host), all", id="stat-names")

    def body(self) -> Iterable[Widget]:
        """All panels in a grid."""
        yield PanelGrid(
            self.rates, self.failed, self.results, self.causes, self.tfo_causes, self.after, self.rtt, self.response,
            self.options, self.names, self.mss, self.wscale, self.window, id="statistics-grid",
        )  # fmt: skip

    def update(self, snapshot: Snapshot) -> None:
        """Update every panel."""
        found = snapshot.distributions
        for panel, track in ((self.rates, ATTEMPTS), (self.failed, FAILED)):
            cells, rows = panel.room
            panel.put(timeline_lines(snapshot.history, [track], [max(1, rows - 1)], cells, at_rest=snapshot.at_rest))
        for panel, title in (
            (self.results, "Results of handshakes"), (self.causes, "Why failed or slow"),
            (self.tfo_causes, "Why no Fast Open"), (self.after, "After the handshake"),
        ):  # fmt: skip
            panel.entitle(title_of_window(title, self.shell.window, snapshot, panel.room[0]))
        self.rtt.put(duration_lines(found.rtt, found.rtt_quantiles, *self.rtt.room, with_tfo=found.rtt_tfo_quantiles))
        self.response.put(duration_lines(found.first_response, found.first_response_quantiles, *self.response.room))
        cells, rows = self.window.room
        self.window.put(histogram_lines(found.window, cells, max(2, rows), label=size))
        totals = snapshot.history.totals(self.shell.window)
        for way_panel, lines, field, counts in (
            (self.results, result_lines, "result", totals.results),
            (self.causes, cause_lines, "why", totals.handshake_causes or {}),
            (self.tfo_causes, tfo_cause_lines, "tfo.cause", totals.causes),
        ):
            ways = [f"{field} == {name}" for name, _ in _ranked(counts)]
            way_panel.put_ways(lines(totals, way_panel.room[0]), ways)
        self.after.put(after_lines(totals, self.after.room[0]))
        syns = sum(seen for _, seen in found.mss)
        for panel, entries, total in (
            (self.mss, [(_number(value), seen) for value, seen in found.mss], syns),
            (self.wscale, [(_scale(value), seen) for value, seen in found.wscale], syns),
            (self.options, found.options, syns),
            (self.names, found.names, sum(seen for _, seen in found.names)),
        ):
            panel.put(counted_lines(entries, total, panel.room[0]))


def duration_lines(
    histogram: Histogram, found: Quantiles, cells: int, rows: int, with_tfo: Quantiles | None = None
) -> list[Line]:
    """Quantiles, those with TFO if there is room, and the distribution."""
    if not found.samples:
        return [(("nothing yet", "dim"),)]
    lines = [quantile_line(found, cells)]
    if with_tfo is not None and with_tfo.samples and rows >= ROOMY:
        lines.append(quantile_line(with_tfo, cells, "with TFO: "))
    return [*lines, *histogram_lines(histogram, cells, max(2, rows - len(lines)))]


def _number(value: int | None) -> str:
    return "none" if value is None else str(value)


def _scale(value: int | None) -> str:
    return "none" if value is None else f"{value} (x{1 << min(value, 14)})"


def after_lines(totals: Totals, cells: int) -> list[Line]:
    """How established connections went on; those that the client did not use come last, since they are no failures."""
    after = totals.after or {}
    order = sorted(after, key=lambda name: (name == _UNUSED, -after[name]))
    return counted_lines([(_AFTER.get(name, name), after[name]) for name in order], sum(after.values()), cells)


def result_lines(totals: Totals, cells: int) -> list[Line]:
    """What became of handshakes, the most frequent first; what failed has its colour."""
    entries = [(failed_words(name), seen, name in FAILED_WORDS) for name, seen in _ranked(totals.results)]
    return counted_lines(
        [(words, seen) for words, seen, _ in entries], totals.handshakes, cells,
        ["failed" if failed else "accent" for _, _, failed in entries],
    )  # fmt: skip


def cause_lines(totals: Totals, cells: int) -> list[Line]:
    """Why handshakes failed or were slow, and how sure each cause is at most."""
    sure = totals.handshake_confidences or {}
    return worded_lines(
        [(brief_cause(name), sure.get(name), seen) for name, seen in _ranked(totals.handshake_causes or {})],
        cells,
        of=sum(totals.results.get(name, 0) for name in FAILED_WORDS),
    )


def tfo_cause_lines(totals: Totals, cells: int) -> list[Line]:
    """The causes of Fast Open's outcomes, and how sure each is at most."""
    sure = totals.cause_confidences or {}
    entries = [(in_words(name), sure.get(name), seen) for name, seen in _ranked(totals.causes)]
    return worded_lines(entries, cells, of=totals.groups.get("degraded", 0) + totals.groups.get("failed", 0))


def _ranked(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])


def worded_lines(entries: Sequence[tuple[str, str | None, int]], cells: int, *, of: int) -> list[Line]:
    """Causes, how sure they are if there is room for it, and counts; `of`: how many should have one."""
    if not entries:
        return [(("no cause is known" if of else "nothing yet", "dim"),)]
    lines: list[Line] = []
    for words, sure, seen in entries:
        number = f" {count(seen):>7}"
        room = max(4, cells - len(number))
        full = f"{safe(words)} ({sure})" if sure else safe(words)
        lines.append(((cell(full if len(full) <= room else safe(words), room), "text"), (number, "text")))
    return lines


def counted_lines(
    entries: Sequence[tuple[str, int]], total: int, cells: int, styles: Sequence[str] | None = None
) -> list[Line]:
    """Values and their counts, as bars; percentages are of `total`."""
    if not entries:
        return [(("nothing yet", "dim"),)]
    top = max(seen for _, seen in entries)
    longest = max(len(safe(text)) for text, _ in entries)
    room = cells - 17
    # words are cut only where a whole one leaves no bar
    words = longest if longest < room else max(4, room - max(4, min(24, cells // 6)))
    bar_cells = max(1, room - words)
    lines: list[Line] = []
    for (text, seen), style in zip(entries, styles or ["accent"] * len(entries), strict=True):
        lines.append((
            (cell(safe(text), words) + " ", "text"),
            *bar(seen, top, bar_cells, style),
            (f" {count(seen):>7}", "text"),
            (f" {share(seen, total):>7}", "dim"),
        ))  # fmt: skip
    return lines
