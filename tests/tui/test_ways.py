"""A peer or a cause leads to its handshakes, and esc goes back to where one came from."""

from __future__ import annotations

from dataclasses import replace

import pytest
from textual.pilot import Pilot

from tests.support.rows import new_store, random_batch
from tests.tui.driving import LARGE, SMALL, drive, press, screen_text, segments, settle, until
from tests.tui.recorded import RECORDED, Recorded
from tracer.aggregate.history import Window
from tracer.aggregate.reasons import most_frequent
from tracer.records.ends import Listener, Process
from tracer.words.reasons import told
from tui.app import Dashboard
from tui.filtering import parse
from tui.screens.listeners import Listeners
from tui.screens.peers import Peers, expression
from tui.screens.statistics import Statistics


@pytest.mark.parametrize("before", ["", "group == failed"])
def test_esc_comes_back_to_the_same_peer_and_the_list_is_as_before(before: str) -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2")
        if before:
            app.handshakes.set_filter(before)
            await settle(pilot)
        await press(pilot, "j", "j", "3", "j", "j")
        peers = app.current
        assert isinstance(peers, Peers)
        peer = peers.selected
        assert peer is not None
        shown = screen_text(app)
        await press(pilot, "enter")
        assert app.handshakes.filter_text == expression(peer)
        assert len(app.handshakes.source) == peer.handshakes
        await press(pilot, "enter", "n", "escape", "s")  # the detail, and another order, do not change the way back
        await press(pilot, "escape")
        assert app.current is peers
        assert peers.selected == peer
        assert screen_text(app) == shown
        await press(pilot, "2")
        assert app.handshakes.filter_text == before
        assert not app.handshakes.following
        await press(pilot, "escape")  # drops the filter, and stays: nothing led here
        assert app.current.NAME == "handshakes"
        assert len(app.handshakes.source) == RECORDED

    drive(script)


def test_a_listener_leads_to_its_handshakes_and_back() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "3", "l", "j")
        listeners = app.current
        assert isinstance(listeners, Listeners)
        one = listeners.selected
        assert one is not None
        assert one.handshakes > 1
        shown = screen_text(app)
        await press(pilot, "enter")
        assert app.current.NAME == "handshakes"
        assert len(app.handshakes.source) == one.handshakes
        await press(pilot, "escape")
        assert app.current is listeners
        assert listeners.selected == one
        assert screen_text(app) == shown
        await press(pilot, "escape")
        assert app.current.NAME == "peers"
        assert "l: listeners" in screen_text(app)

    drive(script, Recorded(local=True))


def test_without_a_listener_enter_stays_there() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "3", "l", "enter", "y")
        assert app.current.NAME == "listeners"
        assert "no listener of this host has answered yet" in screen_text(app)

    drive(script)


@pytest.mark.parametrize("size", [SMALL, LARGE, (200, 60)], ids=["80x24", "120x40", "200x60"])
def test_listeners_tell_who_failed_how_often_and_how_full_the_queue_was(size: tuple[int, int]) -> None:
    engine = Recorded(local=True)
    met = engine.snapshot().listeners[0]
    bad = replace(
        met, process=Process(812, "ngi\x1b[2J", 0), queue=Listener("::", 443, 129, 128), fast_open=False,
        handshakes_failed=34, cause="accept_queue_full",
    )  # fmt: skip
    engine.changes["listeners"] = (bad,)

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "3", "l")
        line = screen_text(app).splitlines()[3]
        for word in ("10.74.13.5:443", " 51 ", " 34 ", " off ", "129 of 128", " ngi"):
            assert word in line
        assert ("accept queue" in line) == (size[0] >= 120)
        assert not any("\x1b" in text for text in segments(app))
        await press(pilot, "w", "w")  # of all: lately is ever
        assert line.count(" 34 ") == 1
        assert screen_text(app).splitlines()[3].count(" 34 ") == 2

    drive(script, engine, size)


def test_who_goes_on_by_number_has_no_way_back() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "3", "enter", "1", "2", "escape")
        assert app.current.NAME == "handshakes"
        assert len(app.handshakes.source) == RECORDED

    drive(script)


def test_results_and_causes_lead_to_their_handshakes_and_back() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "4")
        statistics = app.current
        assert isinstance(statistics, Statistics)
        totals = app.latest.totals
        for panel, counts in (
            (statistics.results, totals.results), (statistics.causes, totals.handshake_causes or {}),
            (statistics.tfo_causes, totals.causes),
        ):  # fmt: skip
            panel.focus()
            await press(pilot, "g")
            for _ in counts:
                way = panel.way
                assert way is not None
                await press(pilot, "enter")
                assert app.handshakes.filter_text == way
                wanted = counts[way.rpartition(" ")[2]]
                await until(pilot, lambda wanted=wanted: len(app.handshakes.source) == wanted, "they are listed")  # type: ignore[misc]
                await press(pilot, "escape")
                assert app.current is statistics
                assert panel.has_focus
                assert panel.way == way
                await press(pilot, "j")

    drive(script, size=LARGE)


def test_the_selected_line_stays_with_its_words_when_lines_change_places() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "4")
        statistics = app.current
        assert isinstance(statistics, Statistics)
        panel = statistics.results
        lines = [((name, "text"),) for name in "abc"]
        panel.put_ways(lines, ["a", "b", "c"])
        panel.focus()
        await press(pilot, "j")
        panel.put_ways(lines[::-1], ["c", "a", "b"])
        assert (panel.cursor, panel.way) == (2, "b")
        panel.put_ways(lines[:1], ["c"])
        assert (panel.cursor, panel.way) == (0, "c")
        panel.put_ways(lines[:1], [])
        assert panel.way is None
        await press(pilot, "enter", "j", "G")
        assert app.current is statistics

    drive(script)


def test_a_second_click_on_a_line_leads_there_too() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "4")
        statistics = app.current
        assert isinstance(statistics, Statistics)
        for _ in range(2):
            await pilot.click(statistics.results, offset=(4, 2))
            await settle(pilot)
        assert app.current.NAME == "handshakes"
        second = sorted(app.latest.totals.results.items(), key=lambda item: -item[1])[1][0]
        assert app.handshakes.filter_text == f"result == {second}"

    drive(script, size=LARGE)


def test_each_reason_leads_to_as_many_handshakes_as_it_counts() -> None:
    store = new_store()
    for seed in range(3):
        store.write(random_batch(seed, 2000))
    snapshot = store.snapshot()
    found = most_frequent(snapshot.history, Window.ALL, 400)
    assert len(found) > 40
    for one in found:
        condition = parse(told(one).way)
        assert condition is not None
        assert int(snapshot.rows.mask(condition).sum()) == one.seen, told(one).way
