"""Why, and what to do: each reason with its number, its place, whether it is on the rise, and the remedy."""

from __future__ import annotations

from dataclasses import dataclass

from rich.cells import cell_len

from tracer.aggregate.history import Where, Window
from tracer.aggregate.reasons import Reason, Trend, reasons
from tracer.records.run import Totals
from tracer.store.snapshot import Snapshot
from tracer.vocabulary.fates import unless_certain
from tracer.vocabulary.places import at_place
from tracer.vocabulary.vocabulary import word
from tracer.words.reasons import told
from tracer.words.signs import group_sign
from tui.advice import advice_lines
from tui.format import age, count
from tui.lines import Line, Part, width, wrap

_INDENT = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """What the panel says of one reason; or other lines, which lead nowhere."""

    way: str | None
    head: list[Line]
    remedy: list[Line]

    @property
    def height(self) -> int:
        """Its lines."""
        return len(self.head) + len(self.remedy)


def why_entries(snapshot: Snapshot, window: Window, cells: int) -> list[Entry]:
    """All reasons; where there are none, or nobody tries Fast Open, what is known instead."""
    entries: list[Entry] = []
    totals = snapshot.history.totals(window)
    for reason in reasons(snapshot.history, window):
        one = told(reason)
        advice = one.remedy[:1].upper() + one.remedy[1:]
        words = one.words + _unless_certain(reason, totals)
        entries.append(Entry(one.way, _head(reason, words, one.group, cells), wrap(advice, cells, "dim", _INDENT)))
    if not entries and totals.handshakes:
        entries.append(Entry(None, [(("Nothing went wrong.", "text"),)], []))
    if not totals.tfo_attempts:
        entries.append(Entry(None, advice_lines(snapshot, cells), []))
    return entries


def _unless_certain(reason: Reason, totals: Totals) -> str:
    if reason.fate is not None:
        return unless_certain(word(reason.fate[1]), totals.handshake_confidences)
    return unless_certain(word(reason.cause), totals.cause_confidences) if reason.cause is not None else ""


def arranged(entries: list[Entry], rows: int, selected: str | None) -> tuple[list[Line], list[str | None]]:
    """The lines, and the filter of each.

    Where they do not fit, remedies are left out, from the rarest reason on; those of the first and of the selected one
    stay.
    """
    first = 1 + rows // 8
    shown = {at for at, one in enumerate(entries) if at < first or one.way == selected}
    left = rows - sum(len(one.head) for one in entries) - sum(len(entries[at].remedy) for at in shown)
    for at, one in enumerate(entries):
        if at not in shown:
            left -= len(one.remedy)
            if left < 0:
                break
            shown.add(at)
    lines: list[Line] = []
    ways: list[str | None] = []
    for at, one in enumerate(entries):
        found = [*one.head, *(one.remedy if at in shown else ())]
        lines += found
        ways += [one.way] * len(found)
    return lines, ways


def _head(reason: Reason, told_words: str, group: str, cells: int) -> list[Line]:
    """Number, words, place and trend: in a line, if they fit."""
    trend = _trend(reason)
    number = f"{group_sign(group)} {count(reason.seen):>7}  "
    words, *rest = wrap(told_words, cells - len(number))
    first: Line = ((number, group), *words)
    place = _place(reason.where) if reason.where is not None else ""
    lines = [((" " * len(number), "text"), *line) for line in rest]
    if not rest and width(first) + cell_len(place) + cell_len(trend[0]) < cells:
        first = (*first, (place, "text"))
    else:
        lines += wrap(place.strip(" ,"), cells, "text", _INDENT) if place else []
    room = cells - width(first) - cell_len(trend[0])
    if room > 0:
        return [(*first, (" " * room, "text"), trend), *lines]
    return [first, *lines, ((" " * _INDENT, "text"), trend)]


def _place(where: Where) -> str:
    return at_place(where.ip, where.port, where.handshakes, where.of, lately=where.lately)


def _trend(reason: Reason) -> Part:
    if reason.trend is Trend.RISING:
        return "▲ rising", "failed"
    if reason.trend is Trend.FALLING:
        return "▼ falling", "ok"
    if reason.trend is Trend.GONE or reason.last_s is None:
        return ("none in the last hour" if reason.last_s is None else f"last {age(reason.last_s)} ago"), "dim"
    return "", "dim"
