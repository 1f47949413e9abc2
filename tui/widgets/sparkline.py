"""One value per second as vertical bars, the newest at the right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tui.format import count
from tui.lines import Line
from tui.widgets.bar import column


def plot(values: NDArray[np.int64], cells: int, rows: int, style: str) -> list[Line]:
    """Bars `rows` high; only the newest values if there are more than cells."""
    shown = values[-cells:] if cells > 0 else values[:0]
    top = float(shown.max()) if len(shown) else 0.0
    columns = [column(float(value), top, rows) for value in shown]
    pad = " " * (cells - len(columns))
    return [((pad + "".join(bars[row] for bars in columns), style),) for row in range(rows)]


def framed_plot(values: NDArray[np.int64], cells: int, rows: int, style: str) -> list[Line]:
    """A plot with its scale, the greatest value and 0, at the left."""
    top = int(values[-cells:].max()) if len(values) else 0
    label = max(len(count(top)), 1)
    lines = plot(values, cells - label - 1, rows, style)
    marked: list[Line] = []
    for row, line in enumerate(lines):
        mark = count(top) if row == 0 else "0" if row == rows - 1 and rows > 1 else ""
        marked.append(((f"{mark:>{label}} ", "dim"), *line))
    return marked
