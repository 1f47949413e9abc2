"""The answer at the top of the overview: does Fast Open work, do handshakes succeed, and since when not?"""

from __future__ import annotations

from tracer.aggregate.breaks import Broken, breaks
from tracer.aggregate.history import Window
from tracer.aggregate.worth import saved_words
from tracer.records.run import Totals
from tracer.store.snapshot import Snapshot
from tracer.vocabulary.printable import plural
from tracer.words.verdicts import Verdict, failed, fast_open, handshakes, part_of
from tui.format import count, rate
from tui.lines import Line, joined, width, wrap


def headline_lines(snapshot: Snapshot, window: Window, cells: int, *, brief: bool = False) -> list[Line]:
    """The verdicts on Fast Open and on handshakes, whole; then the figures, in one line if `brief`."""
    history = snapshot.history
    totals = history.totals(window)
    found = {one.what: one for one in breaks(history)}
    lines: list[Line] = []
    for verdict, aside in (
        (
            fast_open(history, window, found.get(Broken.FAST_OPEN), ended=snapshot.ended is not None),
            in_all(snapshot, window, totals),
        ),
        (handshakes(history, window, found.get(Broken.HANDSHAKES)), ""),
    ):
        if verdict is not None:
            lines += _told(verdict, aside, cells)
    return lines + figure_lines(snapshot, totals, cells, brief)


def _told(verdict: Verdict, aside: str, cells: int) -> list[Line]:
    """A verdict, and behind it what comes second."""
    text, style = verdict[0], f"verdict-{verdict[1]}"
    sign = text[:2] if text[1:2] == " " else ""
    first, *more = wrap(text[len(sign) :], cells - len(sign), style)
    lines = [((sign, style), *first), *(((" " * len(sign), style), *line) for line in more)]
    longest = max(map(width, lines))
    lines = [(*line, (" " * (longest - width(line)), style)) for line in lines]
    if aside and width(lines[-1]) + len(aside) + 2 <= cells:
        lines[-1] = (*lines[-1], (f"  {aside}", "dim"))
    elif aside:
        lines += wrap(aside, cells, "dim", 2)
    return lines


def in_all(snapshot: Snapshot, window: Window, totals: Totals) -> str:
    """What the whole run says, if it is more than the window."""
    whole = snapshot.history.total
    if window is Window.ALL or whole.handshakes == totals.handshakes:
        return ""
    sent = whole.tfo_with_data
    if not sent:
        return f"in all: {count(failed(whole))} of {count(whole.handshakes)} handshakes failed"
    return f"in all: {part_of(whole.tfo_lived, sent)}"


def figure_lines(snapshot: Snapshot, totals: Totals, cells: int, brief: bool) -> list[Line]:
    """How many handshakes, how often, and the time saved: in one line if there is room or `brief`, which drops it."""
    numbers: Line = (
        (f"{count(totals.handshakes)} ", "text"), (f"{plural(totals.handshakes, 'handshake')}, ", "dim"),
        (f"{count(totals.tfo_attempts)} ", "text"), ("with TFO", "dim"),
    )  # fmt: skip
    rates: Line = (
        ("now ", "dim"), (rate(snapshot.handshakes_per_s), "text"), (", ", "dim"),
        (f"{rate(snapshot.attempts_per_s)} ", "text"), ("with TFO", "dim"),
    )  # fmt: skip
    both = joined((numbers, rates))
    numbers = both if width(both) <= cells and not snapshot.at_rest else numbers
    if not totals.handshakes:
        return []
    if not totals.tfo_attempts:
        return [numbers]
    gain, loss = saved_words(totals, cells)
    saved: Line = ((gain or "no round trip saved", "text" if gain else "dim"),)
    if loss:
        saved = (*saved, ("; ", "dim"), (loss, "text"))
    both = joined((numbers, saved))
    if width(both) <= cells:
        return [both]
    return [numbers] if brief or width(saved) > cells else [numbers, saved]
