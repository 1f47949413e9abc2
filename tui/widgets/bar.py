"""Bars, drawn in eighths of a cell."""

from __future__ import annotations

from tui.lines import Line

_EIGHTHS = " ▏▎▍▌▋▊▉"
_HEIGHTS = " ▁▂▃▄▅▆▇█"


def bar(value: float, whole: float, cells: int, style: str) -> Line:
    """A bar in `cells` cells; a value above 0 is always visible."""
    if whole <= 0 or value <= 0 or cells <= 0:
        return ((" " * max(0, cells), "text"),)
    eighths = min(cells * 8, max(1, round(value / whole * cells * 8)))
    full, rest = divmod(eighths, 8)
    text = "█" * full + (_EIGHTHS[rest] if rest else "")
    return ((text, style), (" " * (cells - len(text)), "text"))


def column(value: float, whole: float, rows: int) -> list[str]:
    """A vertical bar in `rows` cells, from top to bottom."""
    if whole <= 0 or value <= 0:
        return [" "] * rows
    eighths = min(rows * 8, max(1, round(value / whole * rows * 8)))
    return [_HEIGHTS[min(8, max(0, eighths - 8 * (rows - 1 - row)))] for row in range(rows)]
