"""The dashboard's text: a line is a tuple of parts, a part is a text and the name of a style (tui/tfotrace.tcss).

Plain tuples let us compute and test the text of a screen without a terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from rich.cells import cell_len, chop_cells, set_cell_size

from tracer.vocabulary.printable import printable

Part = tuple[str, str]
Line = tuple[Part, ...]

EMPTY: Line = ()

# all styles; each is a rule `.t--NAME` in tfotrace.tcss
STYLES = (
    "text", "dim", "title", "strong", "accent", "ok", "degraded", "failed", "none", "tfo", "normal", "alarm", "key",
    "cursor", "cursor-blur", "header", "header-sorted", "bar-track", "inverse",
    "verdict-ok", "verdict-degraded", "verdict-failed", "verdict-text",
)  # fmt: skip


def safe(text: str) -> str:
    """Text from the network with escapes for all that moves the cursor or has no width (combining marks)."""
    return text if text.isascii() and text.isprintable() else _escaped(text)


@lru_cache(maxsize=1024)
def _escaped(text: str) -> str:
    shown = printable(text)
    return "".join(c if cell_len(c) else f"\\u{ord(c):04x}" for c in shown)


def width(line: Line) -> int:
    """The width of a line in cells."""
    return sum(cell_len(text) for text, _ in line)


def cut(text: str, cells: int) -> str:
    """Cut a text to at most `cells` cells, with "…" at the cut."""
    if cell_len(text) <= cells:
        return text
    if cells <= 0:
        return ""
    return set_cell_size(text, cells - 1).rstrip() + "…"


def cut_middle(text: str, cells: int) -> str:
    """Cut a name to at most `cells` cells, with "…" in its middle: beginning and end tell names apart."""
    if cell_len(text) <= cells:
        return text
    tail = ""
    for character in reversed(text):
        if cell_len(character + tail) > (cells - 1) // 2:
            break
        tail = character + tail
    return set_cell_size(text, max(0, cells - 1 - cell_len(tail))).rstrip() + "…" + tail


def some_of(names: Sequence[str], cells: int) -> str:
    """Names, in at most `cells` cells: the first ones, and how many more there are."""
    for shown in range(min(len(names), max(1, cells // 2)), 0, -1):
        more = f" +{len(names) - shown}" if shown < len(names) else ""
        text = safe(",".join(names[:shown])) + more
        if cell_len(text) <= cells:
            return text
    return cut(safe(",".join(names)), cells)


def cell(text: str, cells: int, right: bool = False) -> str:
    """A text cut or padded to exactly `cells` cells."""
    text = cut(text, cells)
    gap = " " * (cells - cell_len(text))
    return gap + text if right else text + gap


def fit(line: Line, cells: int) -> Line:
    """A line cut or padded to exactly `cells` cells."""
    parts: list[Part] = []
    left = cells
    for text, style in line:
        needs = cell_len(text)
        if needs > left:
            parts.append((cut(text, left), style))
            left -= cell_len(parts[-1][0])
            break
        parts.append((text, style))
        left -= needs
    if left > 0:
        parts.append((" " * left, "text"))
    return tuple(parts)


def beside(left: Sequence[Line], right: Sequence[Line], left_cells: int, gap: int = 2) -> list[Line]:
    """Two blocks of lines side by side."""
    lines: list[Line] = []
    for index in range(max(len(left), len(right))):
        first = fit(left[index] if index < len(left) else EMPTY, left_cells)
        second = right[index] if index < len(right) else EMPTY
        lines.append((*first, (" " * gap, "text"), *second))
    return lines


def wrap(text: str, cells: int, style: str = "text", indent: int = 0) -> list[Line]:
    """Break a sentence at blanks into as many lines as it needs."""
    room = max(8, cells - indent)
    rows: list[str] = []
    row = ""
    for word in text.split(" "):
        for piece in chop_cells(word, room) or [""]:
            joined = f"{row} {piece}" if row else piece
            if cell_len(joined) > room and row:
                rows.append(row)
                row = piece
            else:
                row = joined
    rows.append(row)
    return [((" " * indent + row, style),) for row in rows]


def joined(parts: Iterable[Line], gap: str = "   ") -> Line:
    """Join lines into one."""
    result: list[Part] = []
    for line in parts:
        if result:
            result.append((gap, "text"))
        result.extend(line)
    return tuple(result)
