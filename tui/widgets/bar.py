"""Bars: a share of a width in eighths of a cell."""

from __future__ import annotations

from tui.lines import Line

_EIGHTHS = " ▏▎▍▌▋▊▉"
_HEIGHTS = " ▁▂▃▄▅▆▇█"


def bar(value: float, whole: float, cells: int, style: str) -> Line:
    """A bar of `cells` cells; what is more than nothing is never invisible."""
    if whole <= 0 or value <= 0 or cells <= 0:
        return ((" " * max(0, cells), "text"),)
    eighths = min(cells * 8, max(1, round(value / whole * cells * 8)))
    full, rest = divmod(eighths, 8)
    text = "█" * full + (_EIGHTHS[rest] if rest else "")
    return ((text, style), (" " * (cells - len(text)), "text"))


def column(value: float, whole: float, rows: int) -> list[str]:
    """A standing bar of `rows` cells, from the top to the bottom."""
    if whole <= 0 or value <= 0:
        return [" "] * rows
    eighths = min(rows * 8, max(1, round(value / whole * rows * 8)))
    return [_HEIGHTS[min(8, max(0, eighths - 8 * (rows - 1 - row)))] for row in range(rows)]
