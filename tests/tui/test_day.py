"""A day in which Fast Open breaks for five minutes, and a listener's queue overflows for two."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.cells import cell_len

from tests.support.day import DAY_S, Day, attempts, plain
from tests.tui.recorded import Recorded
from tests.unit.aggregate.test_breaks import view
from tracer.aggregate.history import COARSE_STEPS, FINE_STEPS, History, Window
from tracer.store.snapshot import Snapshot
from tui.alerts import alerts
from tui.widgets.banner import banner_lines

BROKEN = range(10 * 3600, 10 * 3600 + 300)
OVERFLOWS = range(15 * 3600, 15 * 3600 + 120)
WITHIN_S = 10


@pytest.fixture(scope="module")
def day() -> Day:
    return Day(broken=BROKEN, overflows=OVERFLOWS)


def shown(day: Day, second: int) -> Snapshot:
    day.play(second)
    return day.store.snapshot()


def test_it_shows_each_break_in_time_and_forgets_it(day: Day) -> None:
    for hour in range(10):
        assert banner_lines(shown(day, hour * 3600)) == []
    _breaks(day, BROKEN, "Fast Open has been failing for", ": path drops syn data")
    for hour in range(11, 15):
        assert banner_lines(shown(day, hour * 3600)) == []
    _breaks(day, OVERFLOWS, "Handshakes have been failing for", "accept queue full at 192.0.2.7:443")
    for hour in range(16, 24):
        assert banner_lines(shown(day, hour * 3600)) == []
    last = shown(day, DAY_S)
    assert last.totals.handshakes == 3 * DAY_S
    assert len(last.history.fine.number) <= FINE_STEPS
    assert len(last.history.coarse.number) <= COARSE_STEPS
    assert len(last.rows) <= 4096


def _breaks(day: Day, when: range, what: str, why: str) -> None:
    """The alert comes within ten seconds, stays, and goes within ten seconds."""
    told = 0
    for second in range(when.start, when.stop):
        found = " ".join(alerts(shown(day, second + 1)))
        told = told or (second if found else 0)
        assert not told or (what in found and why in found)
    assert when.start <= told <= when.start + WITHIN_S
    over = 0
    for second in range(when.stop, when.stop + 600):
        found = " ".join(alerts(shown(day, second + 1)))
        over = over or (second if not found else 0)
        assert not over or not found, found
    assert over <= when.stop + WITHIN_S
    recent = day.store.snapshot().history
    five = recent.totals(Window.FIVE_MINUTES)
    assert five.tfo_with_data - 12 <= (five.tfo_lived or 0) < five.tfo_with_data - 10
    assert five.failed_causes == {}
    hour = recent.totals(Window.HOUR)
    if when is BROKEN:
        assert (hour.tfo_lived or 0) < hour.tfo_with_data - 400
    else:
        assert hour.failed_causes == {"half_open": {"accept_queue_full": 240}}


@pytest.mark.parametrize("cells", [76, 116, 196])
def test_two_alerts_are_told_with_their_figures(cells: int) -> None:
    history = History()
    seconds = list(range(300))
    for part in (attempts(seconds, failed=False), plain(seconds, overflowed=False)):
        history.add(part)
    seconds = list(range(300, 320))
    for part in (attempts(seconds, failed=True), plain(seconds * 2, overflowed=True)):
        history.add(part)
    taken = Recorded(share=0).snapshot()
    lines = banner_lines(replace(taken, history=view(history, 319.5)), cells)
    assert len(lines) == (1 if cells == 196 else 2)
    assert all(cell_len(line) <= cells for line in lines)
    told = "  ".join(lines)
    assert "Fast Open has been failing for 19 s: 20 of 20" in told
    assert "Handshakes have been failing for 19 s: 40 of 60" in told
    assert "path drops syn data" in told
    assert "accept queue full" in told
    assert ("0 % before" in told) == (cells == 116)
