"""Plots over time as inline SVG, by pygal. Colours are the page's own, so that they follow light and dark.

pygal's SVG comes with a script, a style sheet, comments with addresses and layers for a mouse: all are taken out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from tracer.aggregate.history import Steps
from tracer.aggregate.series import SeriesView, connect_quantile
from tracer.aggregate.tally import HAS_FAILED, PART
from tracer.handshake.events import F64
from tracer.report.html import Element, add, element
from tracer.report.times import Span
from tracer.vocabulary.fates import fate_words
from tracer.vocabulary.numbers import age, count, duration
from tracer.vocabulary.vocabulary import HandshakeCause, HandshakeResult, word

BINS = 80
LEAST_BINS = 3  # of fewer there is nothing to see
CAUSES = 5  # with a colour of their own
_WIDTH, _HEIGHT = 520, 210
_SVG = "{http://www.w3.org/2000/svg}"
_LAYERS = ("text-overlay", "tooltip-overlay")

Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class _Bins:
    """The run in bins of one size."""

    began_s: int
    size_s: int
    cells: F64
    connects: NDArray[np.int64]
    marks: dict[int, str]

    def __len__(self) -> int:
        return len(self.cells)

    def one(self, name: str) -> F64:
        """One of the single counts of tally.py."""
        found: F64 = self.cells[:, PART[name].start]
        return found


def plots(view: SeriesView, span: Span) -> list[Element]:
    """All plots that have something to show."""
    steps = view.history.coarse
    if not len(steps.number):
        return []
    bins = _bins(steps, view.connects, span)
    if len(bins) < LEAST_BINS:
        return []
    found = [_handshakes(bins), _failures(bins), _fast_open(bins), _connect(bins)]
    return [one for one in found if one is not None]


def connect_median(view: SeriesView) -> float:
    """Of the whole run, microseconds to 6 %; NaN without any."""
    return float(connect_quantile(view.connects.sum(axis=0, keepdims=True), 0.5)[0])


def _bins(steps: Steps, connects: NDArray[np.int64], span: Span) -> _Bins:
    """Several steps in each, as many in all."""
    first, last = int(steps.number[0]), int(steps.number[-1])
    several = -(-(last - first + 1) // BINS)
    place = (steps.number - first) // several
    length = int(place[-1]) + 1
    cells: F64 = np.zeros((length, steps.cells.shape[1]))
    np.add.at(cells, place, steps.cells)
    sums = np.zeros((length, connects.shape[1]), np.int64)
    np.add.at(sums, place, connects)
    size_s = steps.size_s * several
    began_s = first * steps.size_s
    return _Bins(began_s, size_s, cells, sums, span.marks(began_s, size_s, length))


def _handshakes(bins: _Bins) -> Element:
    with_tfo = bins.one("attempts")
    without = bins.one("handshakes") - with_tfo
    lines = [("without Fast Open", without.tolist()), ("with Fast Open", with_tfo.tolist())]
    whole = bins.one("handshakes")
    return _figure(
        f"Handshakes every {age(bins.size_s)}",
        f"{count(whole.min())} to {count(whole.max())}, {_average(float(whole.mean()))} on average.",
        lines, bins, stacked=True,
    )  # fmt: skip


def _average(value: float) -> str:
    return count(round(value)) if value >= 10 else f"{value:.2g}"


def _failures(bins: _Bins) -> Element | None:
    """The most frequent ways to fail, and all others together."""
    fates = bins.cells[:, PART["fates"]].reshape(len(bins), len(HandshakeResult), len(HandshakeCause))[:, HAS_FAILED]
    results = [result for result in HandshakeResult if HAS_FAILED[result]]
    by_words: dict[str, F64] = {}
    for at, cause in zip(*np.nonzero(fates.sum(axis=0)), strict=True):
        why = HandshakeCause(int(cause))
        words = fate_words(word(results[int(at)]), word(why) if why else None)
        by_words[words] = by_words.get(words, 0) + fates[:, at, cause]
    if not by_words:
        return None
    ranked = sorted(by_words.items(), key=lambda one: -one[1].sum())
    shown = ranked[:CAUSES] if len(ranked) > CAUSES + 1 else ranked
    rest = ranked[len(shown) :]
    if rest:
        shown.append((f"{len(rest)} others", np.sum([one for _, one in rest], axis=0)))
    whole = fates.sum(axis=(1, 2))
    return _figure(
        f"Failed handshakes every {age(bins.size_s)}, by cause",
        f"{count(whole.min())} to {count(whole.max())}.",
        [(f"{name}: {count(one.sum())}", one.tolist()) for name, one in shown], bins, stacked=True,
    )  # fmt: skip


def _fast_open(bins: _Bins) -> Element | None:
    sent, lived = bins.one("with_data"), bins.one("lived")
    if not sent.any():
        return None
    shares: Values = [100 * part / whole if whole else None for part, whole in zip(lived, sent, strict=True)]
    known = [one for one in shares if one is not None]
    return _figure(
        "SYNs with data that worked, %",
        f"{min(known):.0f} % to {max(known):.0f} %, {100 * lived.sum() / sent.sum():.0f} % in all.",
        [("accepted, and the connection lived", shares)], bins, top=100,
    )  # fmt: skip


def _connect(bins: _Bins) -> Element | None:
    if not bins.connects.any():
        return None
    half, most = ([None if np.isnan(one) else one for one in connect_quantile(bins.connects, share).tolist()]
                  for share in (0.5, 0.95))  # fmt: skip
    whole = bins.connects.sum(axis=0, keepdims=True)
    both = [duration(float(connect_quantile(whole, share)[0])) for share in (0.5, 0.95)]
    return _figure(
        "Connect time: first SYN to ACK, lost SYNs included",
        f"Median {both[0]}, 95th percentile {both[1]} in all, both give or take 6 %.",
        [("median", half), ("95th percentile", most)], bins, durations=True,
    )  # fmt: skip


def _figure(
    title: str, summary: str, lines: list[tuple[str, Values]], bins: _Bins, *,
    stacked: bool = False, top: float | None = None, durations: bool = False,
) -> Element:  # fmt: skip
    """A plot, its title and what it shows in words, which screen readers read instead."""
    import pygal

    kind = pygal.StackedLine if stacked else pygal.Line
    # durations are drawn by their logarithms: pygal's own logarithmic axis cannot be given an end
    scale: Callable[[float], float] = math.log10 if durations else float
    if durations:
        known = [one for _, values in lines for one in values if one is not None]
        ticks = _decades(min(known), max(known))
    else:
        sums = [sum(one or 0 for one in values) for values in zip(*(values for _, values in lines), strict=True)]
        ticks = _ticks(top or max(sums))
    chart = kind(
        width=_WIDTH, height=_HEIGHT, margin=4, margin_right=24, explicit_size=False, js=[], css=[], classes=("plot",),
        fill=stacked, dots_size=1.4, show_legend=False, truncate_label=40,
        show_minor_x_labels=False, disable_xml_declaration=True, allow_interruptions=True,
        range=(scale(ticks[0]), scale(ticks[-1])),
        y_labels=[{"label": duration(one) if durations else count(one), "value": scale(one)} for one in ticks],
    )  # fmt: skip
    chart.x_labels = [bins.marks.get(at, "") for at in range(len(bins))]
    chart.x_labels_major = list(bins.marks.values())
    for name, values in lines:
        # a line needs two points side by side
        dots = not stacked and _has_lonely(values)
        chart.add(name, [None if one is None else scale(one) for one in values], show_dots=dots)
    svg = _bare(ET.fromstring(chart.render()))
    svg.attrib.update({"role": "img", "aria-label": f"{title}. {summary}"})
    legend = element("span")
    for at, (name, _) in enumerate(lines):
        add(legend, element("span", name, cls=f"key key-{at}"), " ")
    return element("figure", element("figcaption", element("strong", title), f"{summary} ", legend), svg)


def _has_lonely(values: Values) -> bool:
    """Is there a value with none before and behind it?"""
    around = [None, *values, None]
    return any(
        one is not None and before is None and behind is None
        for before, one, behind in zip(around, around[1:], around[2:], strict=False)
    )


def _ticks(most: float) -> list[float]:
    """Round marks from 0 to above a number, four or five of them."""
    steps = (step * 10.0**power for power in range(15) for step in (1, 2, 2.5, 5) if power or step != 2.5)
    step = next((one for one in steps if most / one <= 4), most or 1.0)
    return [step * at for at in range(max(1, math.ceil(most / step)) + 1)]


def _decades(least: float, most: float) -> list[float]:
    """Marks of a logarithmic axis around some durations: 1, 2, 5, 10 ..., or only powers of 10 where these are many."""
    for steps in ((1, 2, 5), (1,)):
        found = [step * 10.0**power for power in range(-3, 13) for step in steps]
        low = max((one for one in found if one <= least), default=found[0])
        high = min((one for one in found if one >= most and one > low), default=found[-1])
        marks = [one for one in found if low <= one <= high]
        if len(marks) <= 6:
            break
    return marks


def _bare(svg: Element) -> Element:
    """Without scripts, styles, layers for a mouse and values for them; names without their namespace."""
    for parent in svg.iter():
        parent.tag = parent.tag.removeprefix(_SVG)
        for child in list(parent):
            tag = str(child.tag).removeprefix(_SVG)
            layers = child.get("class", "").split()
            if tag in ("script", "style", "desc", "title", "defs") or any(one in _LAYERS for one in layers):
                parent.remove(child)
        parent.attrib.pop("id", None)
        if parent.tag == "circle":
            parent.set("class", "dot")
    return svg
