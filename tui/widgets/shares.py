"""The outcomes of each group, and what became of handshakes, with words, counts and bars."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tracer.records.run import Totals
from tracer.vocabulary.fates import FAILED_WORDS, brief_cause, fate_words
from tracer.vocabulary.vocabulary import GROUP_OF, Group, word
from tracer.words.reasons import died_words, outcome_words
from tracer.words.signs import group_sign, group_style
from tui.format import count, share
from tui.lines import Line, cell
from tui.widgets.bar import bar

_SHORT_WORDS = {"ok": "ok: works", "degraded": "degraded: no gain", "failed": "failed: costs time"}
_LONG_FROM = 52  # cells
_GROUP_WORDS = {
    "ok": "ok: works as intended",
    "degraded": "degraded: works without the gain",
    "failed": "failed: costs time or the connection",
}
GROUPS = ("ok", "degraded", "failed")


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


@dataclass(frozen=True, slots=True)
class _Section:
    """A heading with its count, and below it what that count is made of, the most frequent first."""

    heading: str
    style: str
    seen: int
    of: int
    entries: list[tuple[str, int]]


def share_lines(totals: Totals, cells: int, rows: int) -> list[Line]:
    """Groups with their outcomes, then handshakes that failed or were slow; of few rows the rarest share one."""
    fated = list(_fates(totals, cells))
    # where nobody tries Fast Open there is room for what failed instead of three zeros
    tried = any(totals.groups.get(group, 0) for group in GROUPS)
    groups = list(_groups(totals, cells)) if tried or not fated else []
    sections = [*groups, *fated]
    bare = _bare(totals, cells)
    # what failed stands before what is not judged, and what was slow comes last
    while len(sections) > len(groups) + 1 and 1 + len(sections) > rows:
        sections.pop()
    sections += [bare] if not fated or (groups and 2 + len(sections) <= rows) else []
    top = max((seen for one in sections for _, seen in one.entries), default=0)
    room = _room([len(one.entries) for one in sections], rows - 1 - len(sections), len(groups))
    lines: list[Line] = [group_bar(totals, cells)] if len(sections) < rows else []
    for one, left in zip(sections, room, strict=True):
        numbers = f" {count(one.seen)} {share(one.seen, one.of):>7}"
        lines.append(((cell(one.heading, cells - len(numbers)), one.style), (numbers, one.style)))
        lines.extend(_outcomes(one.entries, left, top, cells, one.style))
    return lines


def _groups(totals: Totals, cells: int) -> Iterator[_Section]:
    by_group = _by_group(totals)
    judged = sum(totals.groups.get(group, 0) for group in GROUPS)
    words = _GROUP_WORDS if cells >= _LONG_FROM else _SHORT_WORDS
    for group in GROUPS:
        heading = f"{group_sign(group)} {words[group]}"
        yield _Section(heading, group_style(group), totals.groups.get(group, 0), judged, by_group[group])


def _fates(totals: Totals, cells: int) -> Iterator[_Section]:
    failed, slow = fates(totals)
    long = cells >= _LONG_FROM
    for group, entries, words in (
        ("failed", failed, "handshakes that failed" if long else "handshakes failed"),
        ("degraded", slow, "established, but slow or not served" if long else "slow or not served"),
    ):
        if entries:
            seen = sum(number for _, number in entries)
            yield _Section(f"{group_sign(group)} {words}", group_style(group), seen, totals.handshakes, entries)


def _bare(totals: Totals, cells: int) -> _Section:
    rest = ": no TFO, or cookie only" if cells >= _LONG_FROM else ""
    heading = f"{group_sign(None)} not judged{rest}"
    return _Section(heading, "dim", totals.groups.get("n/a", 0), totals.handshakes, [])


def fates(totals: Totals) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Handshakes that failed, and others with a cause: in a few words each, the most frequent first."""
    failed: list[tuple[str, int]] = []
    others = dict(totals.handshake_causes or {})
    for result in FAILED_WORDS:
        causes = (totals.failed_causes or {}).get(result, {})
        for cause, seen in causes.items():
            failed.append((fate_words(result, cause), seen))
            others[cause] = others.get(cause, 0) - seen
        failed.append((fate_words(result, None), totals.results.get(result, 0) - sum(causes.values())))
    slow = [(brief_cause(cause), seen) for cause, seen in others.items()]
    return _ranked(failed), _ranked(slow)


def _ranked(entries: list[tuple[str, int]]) -> list[tuple[str, int]]:
    return sorted(((words, seen) for words, seen in entries if seen > 0), key=lambda item: -item[1])


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
    shown = found if len(found) <= room else found[: max(1, room - 1)]
    rest = found[len(shown) :] if room > 1 else []
    lines: list[Line] = []
    entries = [*shown, (f"{len(rest)} others", sum(seen for _, seen in rest))] if rest else shown
    # words come before bars where there is not room for both
    longest = max(len(words) for words, _ in entries)
    bar_cells = max(1, min(20, cells // 4, cells - longest - 13))
    for words, seen in entries:
        number = f" {count(seen):>7}"
        room_for_words = cells - len(number) - bar_cells - 5
        lines.append((
            ("    " + cell(words, room_for_words) + " ", "text"),
            *bar(min(seen, top), top, bar_cells, style),
            (number, "text"),
        ))  # fmt: skip
    return lines


def _room(wanted: list[int], rows: int, groups: int) -> list[int]:
    """Rows for each section's entries, handed out in turn until none is left, to those behind the groups first."""
    room = [0] * len(wanted)
    left = max(0, rows)
    turns = [*range(groups, len(wanted)), *range(groups)]
    while left > 0 and any(got < most for got, most in zip(room, wanted, strict=True)):
        for at in turns:
            if room[at] < wanted[at] and left > 0:
                room[at] += 1
                left -= 1
    return room
