"""A distribution as horizontal bars, one bucket per row; neighbours are merged until they fit."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tracer.aggregate.figures import Histogram, Quantiles
from tui.format import count, duration, share
from tui.lines import Line, Part, cell
from tui.widgets.bar import bar

_ZEROS = re.compile(r"\.0+\b")


def spread(histogram: Histogram, rows: int) -> tuple[NDArray[np.float64], list[slice]]:
    """Edges, and at most `rows` slices of buckets from the first non-empty one to the last."""
    filled = np.flatnonzero(histogram.counts)
    if not len(filled) or rows < 1:
        return histogram.edges[:0], []
    first, last = int(filled[0]), int(filled[-1]) + 1
    step = -(-(last - first) // rows)
    slices = [slice(at, min(at + step, last)) for at in range(first, last, step)]
    return histogram.edges, slices


def histogram_lines(
    histogram: Histogram,
    cells: int,
    rows: int,
    style: str = "accent",
    label: Callable[[float], str] = duration,
    part: Histogram | None = None,
) -> list[Line]:
    """The lines; `part` (handshakes with TFO) becomes the first piece of each bar."""
    edges, slices = spread(histogram, rows)
    if not slices:
        return [(("nothing yet", "dim"),)]
    counts = [int(histogram.counts[piece].sum()) for piece in slices]
    parts = [int(part.counts[piece].sum()) if part is not None else 0 for piece in slices]
    total, top = sum(counts), max(counts)
    # edges are whole: "10 ms", not "10.0 ms"
    labels = [_ZEROS.sub("", label(float(edges[piece.start]))) for piece in slices]
    label_cells = max(len(text) for text in labels)
    number_cells = max(len(count(value)) for value in counts)
    bar_cells = max(4, cells - label_cells - number_cells - 10)
    lines: list[Line] = []
    for text, value, among in zip(labels, counts, parts, strict=True):
        pieces = _pieces(value, among, top, bar_cells, style)
        lines.append((
            (cell(text, label_cells, right=True) + " ", "text"),
            *pieces,
            (f" {count(value):>{number_cells}}", "text"),
            (f" {share(value, total):>7}", "dim"),
        ))  # fmt: skip
    return lines


def _pieces(value: int, among: int, top: int, cells: int, style: str) -> Line:
    if not among:
        return bar(value, top, cells, style)
    whole = max(1, round(value / top * cells))
    first = min(whole, max(1, round(among / top * cells)))
    return (
        ("█" * first, "tfo"),
        ("▒" * (whole - first), style),
        (" " * (cells - whole), "text"),
    )


def quantile_line(found: Quantiles, cells: int, label: str = "") -> Line:
    """Median and tail, as much of it as fits."""
    figures = (("median", found.median_us), ("p90", found.p90_us), ("p99", found.p99_us))
    line: list[Part] = [(label, "dim")] if label else []
    used = len(label)
    for at, (name, value) in enumerate(figures):
        head, text = f"{'  ' if at else ''}{name} ", duration(value)
        used += len(head) + len(text)
        if at and used > cells:
            break
        line += [(head, "dim"), (text, "strong")]
    samples = f"  of {count(found.samples)}"
    if used + len(samples) <= cells:
        line.append((samples, "dim"))
    return tuple(line)
