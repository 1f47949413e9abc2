"""A day in which Fast Open breaks for five minutes, and a listener's queue overflows for two."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from rich.cells import cell_len
from textual.pilot import Pilot

from tests.support.day import DAY_S, Day, attempts, plain
from tests.tui.driving import LARGE, SMALL, drive, press, screen_text, settle
from tests.tui.recorded import Recorded
from tests.unit.aggregate.test_breaks import stopped, view
from tracer.aggregate.history import COARSE_STEPS, FINE_STEPS, History, Window
from tracer.store.snapshot import Snapshot
from tui.actions import MAIN
from tui.alerts import alerts
from tui.app import Dashboard
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
    _breaks(day, BROKEN, "Fast Open has been failing for", ": path drops SYN data")
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
    # every fifth second has each 25th, when an attempt fails: only then could an alarm come back
    for second in (*range(when.stop, when.stop + 60), *range(when.stop + 60, when.stop + 600, 5)):
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
    assert "path drops SYN data" in told
    assert "accept queue full" in told
    assert ("0 % before" in told) == (cells == 116)


@dataclass(frozen=True, slots=True)
class _Told:
    """What screens say of a break while it lasts, and what the overview says of it within five minutes after it."""

    when: range
    alert: str
    verdict: str
    track: str  # of the plots
    after: str


@pytest.mark.parametrize("size", [SMALL, LARGE, (200, 60)], ids=["80x24", "120x40", "200x60"])
def test_every_screen_shows_each_break_in_time_and_forgets_it(size: tuple[int, int]) -> None:
    broken, overflows = range(3600, 3900), range(8000, 8120)
    day = Day(broken=broken, overflows=overflows)
    breaks = (
        _Told(broken, "Fast Open has been failing for 10 s: 10 of 10", "✗ Fast Open broke 10 s ago", "Fast Open worked",
              "it failed for 5:0"),
        _Told(overflows, "Handshakes have been failing for 10 s: 20 of 30", "✗ Handshakes began to fail 10 s ago",
              "accept queue full", "For 2:00 min until"),
    )  # fmt: skip

    def newest(text: str, track: str) -> set[str]:
        return _newest(text, track, size[0])

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        async def shown(second: int, key: str = "1") -> str:
            day.play(second)
            app.pull()
            await press(pilot, key)
            app.pull()
            await settle(pilot)
            return screen_text(app)

        for told in breaks:
            begin, end = told.when.start, told.when.stop
            before = await shown(begin)
            assert told.alert[:12] not in before.splitlines()[1]
            assert told.verdict[:12] not in before
            for number in range(len(MAIN), 0, -1):
                text = await shown(begin + WITHIN_S, str(number))
                assert text.splitlines()[1].startswith(f" ! {told.alert}")
            assert told.verdict in text
            assert newest(text, told.track) != newest(before, told.track)
            later = await shown(end + WITHIN_S)
            assert not later.splitlines()[1].startswith(" !")
            assert told.verdict[:12] not in later
            assert told.after in " ".join(later.split())
            assert newest(later, told.track) == newest(before, told.track)
            forgotten = await shown(end + 5 * 60 + WITHIN_S)
            assert told.after not in " ".join(forgotten.split())
            assert "✓ No handshake failed" in forgotten
            assert "✓ Fast Open works: 96 %" in forgotten
        gone = await shown(overflows.stop + 3600 + WITHIN_S)
        assert "accept queue full" not in gone

    drive(script, _Playing(day), size)


class _Playing(Recorded):
    """The app's engine: the day."""

    def __init__(self, day: Day) -> None:
        super().__init__(share=0)
        self.store = day.store


def _newest(text: str, track: str, cells: int) -> set[str]:
    """What the two newest steps of a plot are drawn with, however high it is; blanks where there is no such plot."""
    lines = text.splitlines()
    at = next((at for at, line in enumerate(lines) if line.startswith(f" {track}")), None)
    if at is None:
        return {" "}
    below = next(at for at in range(at + 1, len(lines)) if lines[at][1:2] != " ")
    return set("".join(line.ljust(cells)[cells - 3 : cells - 1] for line in lines[at:below]))


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_fast_open_that_seems_to_have_stopped_is_told_on_the_screen(size: tuple[int, int]) -> None:
    engine = Recorded()
    found = view(stopped(), 1009)
    engine.changes = {"history": found, "totals": found.total}

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await settle(pilot)
        told = " ".join(screen_text(app).split())
        assert "! Fast Open seems to have stopped working 9 s ago: 10 of 10 without it" in told
        assert "~ Fast Open seems to have stopped working 9 s ago: it worked in 0 of the last 10" in told

    drive(script, engine, size)
