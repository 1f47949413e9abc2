"""The outcomes of each group, with words, counts and bars."""

from __future__ import annotations

from tracer.records.record import Totals
from tracer.vocabulary.meanings import VERDICTS
from tracer.vocabulary.vocabulary import GROUP_OF, Group, word
from tui.format import count, share
from tui.lines import Line, cell, group_sign, group_style
from tui.widgets.bar import bar

_SHORT_WORDS = {"ok": "ok: works", "degraded": "degraded: no gain", "failed": "failed: costs time"}
_LONG_FROM = 52  # cells
_GROUP_WORDS = {
    "ok": "ok: works as intended",
    "degraded": "degraded: works without the gain",
    "failed": "failed: costs time or the connection",
}
GROUPS = ("ok", "degraded", "failed")


def outcome_words(outcome: str) -> str:
    """The verdict without its "TFO"."""
    text = VERDICTS.get(outcome, outcome)
    return text.removeprefix("TFO ")


def died_words(outcome: str) -> str:
    """The verdict where the connection died after it."""
    return f"{outcome_words(outcome)}, then dead"


def group_bar(totals: Totals, cells: int) -> Line:
    """One bar of all judged handshakes with a piece per group."""
    counts = [totals.groups.get(group, 0) for group in GROUPS]
    whole = sum(counts)
    if not whole:
        return ((cell("no TFO attempt yet", cells), "dim"),)
    widths = [max(1, value * cells // whole) if value else 0 for value in counts]
    widths[widths.index(max(widths))] += cells - sum(widths)
    fills = {"ok": "█", "degraded": "▓", "failed": "░"}
    return tuple((fills[group] * wide, group_style(group)) for group, wide in zip(GROUPS, widths, strict=True) if wide)


def share_lines(totals: Totals, cells: int, rows: int) -> list[Line]:
    """Each group with its outcomes, the most frequent first; if rows are few, the rarest are merged."""
    by_group = _by_group(totals)
    judged = sum(totals.groups.get(group, 0) for group in GROUPS)
    top = max((seen for found in by_group.values() for _, seen in found), default=0)
    bare = totals.groups.get("n/a", 0)
    room = _room({group: len(found) for group, found in by_group.items()}, rows - 2 - len(GROUPS))
    lines: list[Line] = [group_bar(totals, cells)]
    for group in GROUPS:
        style = group_style(group)
        seen = totals.groups.get(group, 0)
        words = _GROUP_WORDS if cells >= _LONG_FROM else _SHORT_WORDS
        heading = f"{group_sign(group)} {words[group]}"
        numbers = f" {count(seen)} {share(seen, judged):>6}"
        lines.append(((cell(heading, cells - len(numbers)), style), (numbers, style)))
        lines.extend(_outcomes(by_group[group], room[group], top, cells, style))
    numbers = f" {count(bare)} {share(bare, totals.handshakes):>6}"
    rest = ": no TFO, or cookie only" if cells >= _LONG_FROM else ""
    lines.append(((cell(f"{group_sign(None)} not judged{rest}", cells - len(numbers)), "dim"),
                  (numbers, "dim")))  # fmt: skip
    return lines


def _by_group(totals: Totals) -> dict[str, list[tuple[str, int]]]:
    """Words and counts of each group, the most frequent first; those that died later count as failed."""
    found: dict[str, list[tuple[str, int]]] = {group: [] for group in GROUPS}
    died = totals.died or {}
    for outcome, kind in GROUP_OF.items():
        name = word(outcome)
        dead = died.get(name, 0)
        seen = totals.outcomes.get(name, 0) - dead
        if seen and kind is not Group.NOT_APPLICABLE:
            found[kind.word].append((outcome_words(name), seen))
        if dead:
            found[Group.FAILED.word].append((died_words(name), dead))
    return {group: sorted(entries, key=lambda item: -item[1]) for group, entries in found.items()}


def _outcomes(found: list[tuple[str, int]], room: int, top: int, cells: int, style: str) -> list[Line]:
    if not found or room <= 0:
        return []
    shown = found if len(found) <= room else found[: room - 1]
    rest = found[len(shown) :]
    bar_cells = min(20, max(0, cells // 4))
    lines: list[Line] = []
    entries = [*shown, (f"{len(rest)} others", sum(seen for _, seen in rest))] if rest else shown
    for words, seen in entries:
        number = f" {count(seen):>7}"
        room_for_words = cells - len(number) - bar_cells - 5
        lines.append((
            ("    " + cell(words, room_for_words) + " ", "text"),
            *bar(min(seen, top), top, bar_cells, style),
            (number, "text"),
        ))  # fmt: skip
    return lines


def _room(wanted: dict[str, int], rows: int) -> dict[str, int]:
    """Rows for each group's outcomes, handed out in turn until none is left."""
    room = dict.fromkeys(wanted, 0)
    left = max(0, rows)
    while left > 0 and any(room[group] < wanted[group] for group in wanted):
        for group, most in wanted.items():
            if room[group] < most and left > 0:
                room[group] += 1
                left -= 1
    return room
