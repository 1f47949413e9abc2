"""Walking back in time: every screen shows what it would have shown, and says of what moment it is."""

from __future__ import annotations

from textual.pilot import Pilot

from tests.tui.driving import LARGE, drive, press, screen_text, settle
from tests.tui.recorded import RECORDED, Recorded
from tracer.aggregate.history import Window
from tui.app import Dashboard


def test_back_and_forth() -> None:
    engine = Recorded()

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        app.window = Window.ALL
        app.pull()
        await settle(pilot)
        now = screen_text(app)
        counts = [len(app.shown.rows)]
        while len(app.shown.rows) > 1 and len(counts) < 60:
            await press(pilot, "left_curly_bracket")
            counts.append(len(app.shown.rows))
        assert counts == sorted(counts, reverse=True)
        assert len(set(counts)) > 4
        assert app.shown.moment is not None
        assert f"at {app.shown.moment}" in screen_text(app)
        assert app.shown.totals.handshakes == counts[-1]
        await press(pilot, "2")
        assert f"{counts[-1]} handshake" in screen_text(app)
        await press(pilot, "1", *["right_curly_bracket"] * 7)
        assert app.frozen is None
        assert len(app.shown.rows) == RECORDED
        assert screen_text(app) == now

    drive(script, engine, LARGE)


def test_resumed_by_space() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "left_square_bracket")
        assert app.frozen is not None
        await press(pilot, "space")
        assert app.frozen is None

    drive(script)


def test_without_handshakes_there_is_no_past() -> None:
    engine = Recorded(share=0)

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "left_square_bracket")
        await settle(pilot)
        assert app.frozen is None
        assert [one.message for one in app._notifications] == ["no handshake is held yet"]

    drive(script, engine)


def test_the_window_is_chosen_by_a_key() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        seen = [app.window]
        for _ in Window:
            await press(pilot, "w")
            seen.append(app.window)
        assert seen == [Window.FIVE_MINUTES, Window.HOUR, Window.ALL, Window.MINUTE, Window.FIVE_MINUTES]

    drive(script)
