"""Tab in the filter line: it completes names and values, again it goes on to the next candidate."""

from __future__ import annotations

from textual.pilot import Pilot

from tests.support.rows import records_of
from tests.tui.driving import drive, press, screen_text, segments, settle
from tests.tui.recorded import RECORDED, Recorded
from tests.tui.test_hostile import NAMES, assert_harmless, with_name
from tracer.filters.filter import fields_of
from tui.app import Dashboard
from tui.seen import seen_values


def test_tab_completes_a_whole_filter() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2", "slash", *"outc", "tab")
        line = app.handshakes.filter_line
        assert line.input.value == "outcome"
        await press(pilot, "tab")
        assert line.input.value == "outcome =="
        assert "in (" in screen_text(app)
        await press(pilot, "space", *"data_a", "tab")
        assert line.input.value == "outcome == data_acked"
        assert line.valid
        assert "data_acked_new_cookie" in screen_text(app)
        await press(pilot, "tab")
        assert line.input.value == "outcome == data_acked_new_cookie"
        await press(pilot, "shift+tab")
        assert line.input.value == "outcome == data_acked"
        await press(pilot, "enter")
        assert 0 < len(app.handshakes.source) < RECORDED
        assert not line.candidates.has_class("there")

    drive(script)


def test_typing_on_ends_the_cycle_and_the_rest_of_the_text_stays() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2", "slash", *" and rtt > 1us", "home", *"outcome == no", "tab")
        line = app.handshakes.filter_line
        assert line.input.value == "outcome == not_attempted and rtt > 1us"
        await press(pilot, "tab")
        assert line.input.value == "outcome == no_answer and rtt > 1us"
        await press(pilot, "backspace")
        assert not line.candidates.has_class("there")
        assert not line.valid
        assert "✗ not valid" in screen_text(app)

    drive(script)


def test_candidates_are_the_values_seen() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2", "slash", *"port == ", "tab")
        line = app.handshakes.filter_line
        ports = {record.server.port for record in records_of(app.latest.rows)}
        assert line._cycle is not None
        assert set(map(int, line._cycle.candidates)) <= ports
        first = line.input.value
        for _ in line._cycle.candidates:
            shown = screen_text(app).splitlines()[3]
            assert line.input.value.split()[-1] in shown, "the candidate taken is not shown"
            await press(pilot, "tab")
        assert line.input.value == first, "round it goes"
        await press(pilot, "ctrl+u", *"zzz", "tab")
        assert line.input.value == "zzz"

    drive(script)


def test_hostile_values_are_not_offered() -> None:
    for name in NAMES.values():
        engine = Recorded(share=0.1)
        engine.store.write(with_name(name))
        offered = seen_values(engine.snapshot().rows, fields_of("sni"))
        assert offered
        assert_harmless(offered)


def test_hostile_values_do_no_harm_under_the_line() -> None:
    engine = Recorded(share=0.1)
    engine.store.write(with_name(NAMES["markup"]))

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2", "slash", *"sni == ", "tab")
        line = app.handshakes.filter_line
        assert line._cycle is not None
        for _ in line._cycle.candidates:
            assert line.valid
            assert_harmless(segments(app))
            await press(pilot, "tab")
        await settle(pilot)

    drive(script, engine)
