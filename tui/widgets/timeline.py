"""Plots over the last hour, the newest at the right: steps of seconds there, and of minutes at the left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isnan

import numpy as np
from rich.cells import cell_len

from tracer.aggregate.history import NS_PER_S, HistoryView
from tracer.aggregate.tally import PART
from tracer.handshake.events import F64
from tui.format import age, rate, share
from tui.lines import Line, Part, cell
from tui.widgets.bar import column

# up to which age in seconds, its label, how much of the width, the least size of a step
_SPANS = ((60, "1 min", 0.3, 1), (300, "5 min", 0.3, 1), (1800, "30 min", 0.25, 15), (3600, "1 h", 0.15, 15))
_NOW = "now"
_MOST = 400  # steps: with more of them some would be too small


@dataclass(frozen=True, slots=True)
class Track:
    """What is plotted: the sum of some cells of tally.py, per second; or, with `of`, as a share of other cells.

    `told`: what the first line says behind the name; null: the greatest rate, or the newest share.
    """

    name: str
    style: str
    cells: Sequence[int]
    of: int | None = None
    told: str | None = None


HANDSHAKES = Track("handshakes", "accent", (PART["handshakes"].start,))
# these have a panel each, whose title says what they are
ATTEMPTS = Track("", "tfo", (PART["attempts"].start,))
FAILED = Track("", "failed", (PART["any_failed"].start,))
WORKED = Track("Fast Open worked", "tfo", (PART["lived"].start,), of=PART["with_data"].start)


@lru_cache(maxsize=16)
def ages(cells: int, back_s: int = 3600) -> tuple[int, ...]:
    """The ascending ages between which the steps lie, from the last whole second on.

    They go back an hour; of a younger run, no further than the span that has its begin.
    """
    spans = [span for number, span in enumerate(_SPANS) if number == 0 or _SPANS[number - 1][0] < back_s]
    wanted = min(cells, _MOST)
    whole = sum(part for _, _, part, _ in spans)
    found = [1]
    for until, _, part, least in spans:
        begin, left = found[-1], wanted - (len(found) - 1)
        span = until + 1 - begin
        steps = min(left if until == spans[-1][0] else max(1, round(wanted * part / whole)), span // least)
        found += [begin + round(span * (step + 1) / steps) for step in range(steps)]
    return tuple(found)


def timeline_lines(
    view: HistoryView, tracks: Sequence[Track], rows: Sequence[int], cells: int, *, at_rest: bool = False
) -> list[Line]:
    """Each track in as many rows as it is given, with its name and scale at the left; below all, the axis.

    `at_rest`: time does not go on, so the newest second counts as well.
    """
    gutter = max(cell_len(f"{track.name}  {track.told or _longest(track)}") for track in tracks)
    gutter = max(8, min(gutter, cells - 24))
    back_s = _back_s(view)
    edges = ages(max(8, cells - gutter - 1), min(3600, back_s))
    shown = min(len(edges) - 1, int(np.searchsorted(edges, back_s + 1)))
    wide = max(1, (cells - gutter - 1) // (len(edges) - 1))  # cells of a step: a young run has few
    wanted = sorted({of for track in tracks for of in (*track.cells, *(() if track.of is None else (track.of,)))})
    place = {of: at for at, of in enumerate(wanted)}
    spans, found = np.diff(edges)[:shown], view.cells([edge - at_rest for edge in edges], wanted)[:shown]
    rates = [found[:, [place[of] for of in track.cells]].sum(axis=1) / spans for track in tracks]
    # failures share a scale, so that they can be compared
    most = [float(values.max(initial=0)) for values in rates]
    shared = max((top for track, top in zip(tracks, most, strict=True) if track.told is not None), default=0.0)
    lines: list[Line] = []
    for track, values, top, height in zip(tracks, rates, most, rows, strict=True):
        if track.of is None:
            told = track.told or f"peak {rate(top)}"
            drawn = _drawn(values, shared if track.told is not None else top, height, track.style, wide)
        else:
            of = found[:, place[track.of]]
            shares = np.divide(values * spans, of, out=np.full(shown, np.nan), where=of > 0)
            drawn, told = (
                _drawn(shares, 1.0, height, None, wide),
                _newest(shares, edges, gutter, gutter - cell_len(track.name) - 2),
            )
        lines += _framed(track.name, told, drawn, gutter, cells)
    return [*lines, _axis(edges, gutter, cells, back_s, wide)]


def _back_s(view: HistoryView) -> int:
    """How many seconds ago counting began, or the first handshake of a recording settled."""
    begins = [view.began_ns // NS_PER_S]
    begins += [int(steps.number[0]) * steps.size_s for steps in (view.fine, view.coarse) if len(steps.number)]
    return max(1, view.now_ns // NS_PER_S - min(begins))


def _newest(shares: F64, edges: Sequence[int], gutter: int, room: int) -> str:
    """The newest share that there is; unless it is of the newest step, how long ago that was, if there is room."""
    known = np.flatnonzero(~np.isnan(shares))
    if not len(known):
        return "-"
    at = int(known[0])
    newest = share(float(shares[at]), 1)
    if at == 0:
        return f"now {newest}"
    told = f"{newest}, {age(edges[at])} ago"
    if cell_len(told) > room:
        told = f"last {newest}"
    return told if cell_len(told) <= gutter else "-"


def _longest(track: Track) -> str:
    return "peak 99,999/s" if track.of is None else "now >99.9 %"


def _drawn(values: F64, top: float, rows: int, style: str | None, wide: int) -> tuple[Line, ...]:
    """Bars, the newest at the right; shares have no style: each has that of its height, and 0 % is seen."""
    return _bars(values.tobytes(), top, rows, style, wide)


@lru_cache(maxsize=64)
def _bars(of: bytes, top: float, rows: int, style: str | None, wide: int) -> tuple[Line, ...]:
    """A plot changes once a second, and is asked for at each snapshot."""
    columns = [
        (column(value if style else max(value, 1e-9), top, rows) if not isnan(value) else [" "] * rows,
         style or _sign(value))
        for value in np.frombuffer(of)[::-1].tolist()
        for _ in range(wide)
    ]  # fmt: skip
    lines: list[Line] = []
    for row in range(rows):
        parts: list[Part] = []
        for bars, name in columns:
            if parts and parts[-1][1] == name:
                parts[-1] = (parts[-1][0] + bars[row], name)
            else:
                parts.append((bars[row], name))
        lines.append(tuple(parts))
    return tuple(lines)


def _sign(value: float) -> str:
    return "text" if isnan(value) else "ok" if value >= 0.95 else "degraded" if value > 0 else "failed"


def _framed(name: str, told: str, drawn: Sequence[Line], gutter: int, cells: int) -> list[Line]:
    """Name and scale in front of the first row, and all at the right edge."""
    if cell_len(told) > gutter:
        told = told.partition(" ")[2]  # the figure without "peak", "now" or "last"
    named: Line = ((cell(name, gutter - cell_len(told)), "text"), (told, "dim"))
    lines: list[Line] = []
    for row, line in enumerate(drawn):
        gap = " " * (cells - gutter - sum(len(text) for text, _ in line))
        lines.append((*(named if row == 0 else ((" " * gutter, "text"),)), (gap, "text"), *line))
    return lines


def _axis(edges: Sequence[int], gutter: int, cells: int, back_s: int, wide: int) -> Line:
    """A mark where each span begins, and its label behind it; at the left, of how long a run the last hour is shown."""
    row = [" "] * cells
    hours = back_s / 3600
    if hours > 1.05:
        whole = f"of {hours:.0f} h" if hours >= 10 else f"of {hours:.1f} h"
        told = f"last hour {whole}"
        told = told if len(told) <= gutter else whole
        row[: len(told)] = told
    at_right = len(_NOW)
    for until, label, _, _ in _SPANS:
        if until + 1 not in edges:
            break
        at = cells - edges.index(until + 1) * wide
        text = f"╵{label}"
        if at >= gutter and at + len(text) < cells - at_right:
            row[at : at + len(text)] = text
            at_right = cells - at
    row[cells - len(_NOW) :] = _NOW
    return (("".join(row), "dim"),)
