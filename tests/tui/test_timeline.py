"""Plots over an hour: their steps, what is drawn where, and the axis below."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from tests.support.day import attempts, plain
from tests.tui.recorded import Recorded
from tests.unit.aggregate.test_breaks import view
from tracer.aggregate.history import COARSE_S, History, HistoryView, Window
from tui.lines import Line, width
from tui.why import why_entries
from tui.widgets.timeline import FAILED, HANDSHAKES, WORKED, Track, ages, timeline_lines

GUTTER = len("Fast Open worked  now >99.9 %")


def text(line: Line) -> str:
    return "".join(part for part, _ in line)


@pytest.mark.parametrize("cells", [8, 24, 52, 90, 170, 400, 1000])
@pytest.mark.parametrize("back_s", [1, 60, 61, 300, 1800, 3600])
def test_steps_grow_and_reach_back_to_the_hour_or_the_begin(cells: int, back_s: int) -> None:
    edges = ages(cells, back_s)
    assert edges[0] == 1
    assert back_s <= edges[-1] - 1 <= 3600
    assert len(edges) - 1 <= cells
    steps = [end - begin for begin, end in itertools.pairwise(edges)]
    assert min(steps) >= 1
    spans = [steps[edges.index(begin) : edges.index(end)] for begin, end in
             ((1, 61), (61, 301), (301, 1801), (1801, 3601)) if end in edges]  # fmt: skip
    means = [sum(one) / len(one) for one in spans]
    assert means == sorted(means)
    assert all(max(one) - min(one) <= 1 for one in spans), "of one span all are the same size"
    assert all(min(one) >= COARSE_S for one in spans[2:])


def hour() -> HistoryView:
    """Fast Open broke 10 minutes ago for 5, and nobody used it for 4 minutes before."""
    history = History()
    history.add(attempts(list(range(2760)), failed=False))
    history.add(plain(list(range(2760, 3000)), overflowed=False))
    history.add(attempts(list(range(3000, 3300)), failed=True))
    history.add(attempts(list(range(3300, 3600)), failed=False))
    return view(history, 3600.5)


@pytest.mark.parametrize(
    ("hours", "says"), [(1, ""), (1.04, ""), (2.5, "last hour of 2.5 h"), (14, "last hour of 14 h"), (90, "of 90 h")]
)
def test_the_axis_says_of_how_long_a_run_it_shows_the_last_hour(hours: float, says: str) -> None:
    history = History()
    history.add(plain([0, int(hours * 3600) - 1], overflowed=False))
    now = view(history, hours * 3600)
    for tracks in ([HANDSHAKES, WORKED], [FAILED]):
        for cells in (24, 40, 78, 198):
            axis = text(timeline_lines(now, tracks, [1] * len(tracks), cells)[-1])
            assert len(axis) == cells
            assert ("of" in axis) == bool(says)
            assert says.removeprefix("last hour ") in axis
            assert says in axis or cells < 78 or len(tracks) == 1


def test_what_happened_before_the_last_hour_of_a_recording_is_not_gone() -> None:
    history = History()
    history.add(plain([0, 1, 2], overflowed=True))
    history.add(plain([9000], overflowed=False))
    shown = replace(Recorded().snapshot(), history=view(history, 9001))
    (entry,) = [one for one in why_entries(shown, Window.ALL, 100) if one.way is not None]
    assert text(entry.head[0]).endswith("none in the last hour")


@pytest.mark.parametrize("cells", [78, 118, 198])
def test_a_break_and_a_gap_are_seen_where_they_were(cells: int) -> None:
    lines = timeline_lines(hour(), [HANDSHAKES, WORKED, FAILED], [2, 1, 1], cells)
    assert len(lines) == 5
    assert {width(line) for line in lines} == {cells}
    edges = ages(cells - GUTTER - 1)

    def at(line: Line, age_s: int) -> tuple[str, str]:
        step = max(number for number, edge in enumerate(edges) if edge <= age_s)
        place = cells - 1 - step
        for part, style in line:
            if place < len(part):
                return part[place], style
            place -= len(part)
        raise AssertionError

    worked, failed = lines[2], lines[3]
    assert text(worked).startswith("Fast Open worked")
    assert at(worked, 100) == at(worked, 3500) == ("█", "ok")
    assert at(worked, 450) == ("▁", "failed")
    assert at(worked, 720)[0] == " ", "nobody tried: neither good nor bad"
    assert at(failed, 450)[0] != " "
    assert at(failed, 100)[0] == at(failed, 3000)[0] == " "
    axis = text(lines[-1])
    for label in ("1 h", "30 min", "5 min", "1 min"):
        assert f"╵{label}" in axis
    assert axis.endswith("now")
    assert axis.index("╵5 min") == cells - 1 - edges.index(301) + 1
    assert "…" not in "".join(map(text, lines))


def test_a_young_run_takes_the_whole_width_for_its_minutes() -> None:
    history = History()
    history.add(attempts(list(range(40)), failed=False))
    lines = timeline_lines(view(history, 40), [HANDSHAKES], [1], 78)
    assert "╵1 min" in text(lines[-1])
    assert "5 min" not in text(lines[-1])
    assert text(lines[0]).count("█") > 20
    empty = timeline_lines(view(History(), 0), [HANDSHAKES, WORKED], [1, 1], 78)
    assert text(empty[0]).split() == ["handshakes", "peak", "0/s"]
    assert text(empty[1]).split() == ["Fast", "Open", "worked", "-"]


@pytest.mark.parametrize(
    ("idle_s", "cells", "says"),
    [(1, 78, "now 100 %"), (10, 78, "last 100 %"), (200, 24, "-"), (200, 78, "last 100 %"), (0, 78, "now 100 %"),
     (10, 30, "-"), (1, 24, "100 %")],
)  # fmt: skip
def test_a_share_is_not_of_now_where_nobody_tried_in_the_newest_step(idle_s: int, cells: int, says: str) -> None:
    history = History()
    history.add(attempts(list(range(300)), failed=False))
    (row, _) = timeline_lines(view(history, 299 + idle_s), [WORKED], [1], cells, at_rest=idle_s == 0)
    told = text(row).rstrip("█ ")
    assert told.removeprefix("Fast Open worked").rpartition("…")[2].split() == says.split()


def test_where_there_is_room_it_is_said_how_long_ago_that_was() -> None:
    history = History()
    history.add(attempts(list(range(300)), failed=False))
    named = Track("a reason with many words, as some have", "failed", FAILED.cells, told="1,234")
    rows = timeline_lines(view(history, 320), [WORKED, named], [1, 1], 118)
    assert " 100 %, 20 s ago " in text(rows[0])


@pytest.mark.parametrize("cells", [118, 198])
def test_the_first_minute_of_a_run_takes_the_width_that_there_is(cells: int) -> None:
    history = History()
    history.add(plain(list(range(45)), overflowed=False))
    row, axis = timeline_lines(view(history, 45), [HANDSHAKES], [1], cells)
    assert width(row) == width(axis) == cells
    assert len(text(row).rpartition("  ")[2]) == 45 * (2 if cells == 198 else 1)
    assert cells - text(axis).index("╵") == 60 * (2 if cells == 198 else 1)


def test_the_newest_second_counts_where_time_stands_still() -> None:
    history = History()
    history.add(plain([0, 10], overflowed=True))
    for at_rest in (False, True):
        (row, _) = timeline_lines(view(history, 10), [FAILED], [1], 78, at_rest=at_rest)
        assert text(row).endswith("█") == at_rest
