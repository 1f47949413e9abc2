"""TFO against normal: the median time to the first response byte as two bars for each server."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

from tracer.aggregate.figures import Comparison
from tracer.aggregate.worth import difference, difference_words
from tracer.vocabulary.vocabulary import Difference
from tui.format import count, duration
from tui.lines import Line, cell, safe
from tui.widgets.bar import bar

WITH_P90 = 100  # cells from which the tail is shown too


STYLES = {
    Difference.NONE: "dim",
    Difference.NO_DIFFERENCE: "dim",
    Difference.SOONER: "ok",
    Difference.LATER: "degraded",
    Difference.MUCH_SOONER: "text",
    Difference.MUCH_LATER: "text",
}


def comparison_lines(entries: Sequence[Comparison], cells: int, rows: int) -> list[Line]:
    """Two lines per server, TFO and normal, with bars of the same scale."""
    if not entries:
        return [(("no server has answered yet", "dim"),)]
    both = [entry for entry in entries if entry.tfo_samples and entry.normal_samples]
    rest = [entry for entry in entries if not (entry.tfo_samples and entry.normal_samples)]
    shown = [*both, *rest][: rows // 2]
    numbers = max((cell_len(text) for entry in shown for text in _both_numbers(entry, cells)), default=0)
    return [line for entry in shown for line in _entry(entry, cells, numbers)]


def _entry(entry: Comparison, cells: int, numbers: int) -> list[Line]:
    """The two lines; `numbers`: the cells that those of all servers need, which are never cut."""
    name_cells = min(60, max(33, cells * 2 // 5))  # the least for "  40.4 ± 0.6 ms (1.0 RTT) sooner"
    name_cells = max(4, min(name_cells, cells - numbers - 9))
    bar_cells = max(1, cells - name_cells - numbers - 8)
    verdict, verdict_style = difference_words(entry, name_cells - 2), STYLES[difference(entry)]
    # the address tells servers apart: if both do not fit, cut the name
    named = f"{safe(entry.server)}  {safe(entry.name)}" if entry.name else safe(entry.server)
    first = cell(named, name_cells)
    with_tfo, without = _both_numbers(entry, cells)
    top = max(entry.tfo_median_us or 0.0, entry.normal_median_us or 0.0)
    return [
        (
            (first + " ", "strong"),
            ("TFO    ", "tfo"),
            *bar(entry.tfo_median_us or 0.0, top, bar_cells, "tfo"),
            (cell(with_tfo, numbers), "text"),
        ),
        (
            (cell("  " + verdict, name_cells) + " ", verdict_style),
            ("normal ", "normal"),
            *bar(entry.normal_median_us or 0.0, top, bar_cells, "normal"),
            (cell(without, numbers), "text"),
        ),
    ]


def _both_numbers(entry: Comparison, cells: int) -> tuple[str, str]:
    tail = cells >= WITH_P90
    return (
        _numbers(entry.tfo_median_us, entry.tfo_p90_us if tail else None, entry.tfo_samples),
        _numbers(entry.normal_median_us, entry.normal_p90_us if tail else None, entry.normal_samples),
    )


def _numbers(median_us: float | None, p90_us: float | None, samples: int) -> str:
    if not samples:
        return "   none seen"
    tail = f"  p90 {duration(p90_us):>8}" if p90_us is not None else ""
    return f" {duration(median_us):>9}{tail}  of {count(samples)}"
