"""Whatever happens to terminal, tracing or program, there is no traceback, and nothing seen is lost."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from textual.pilot import Pilot

from tests.tui.driving import LARGE, SMALL, drive, press, screen_text, settle
from tests.tui.recorded import RECORDED, Recorded
from tui import app as app_module
from tui.actions import MAIN
from tui.app import Dashboard, run
from tui.themes import CYCLE, first_theme, next_theme

NUMBER = {name: str(number) for number, name in enumerate(MAIN, start=1)}
WAYS: dict[str, tuple[str, ...]] = {
    **{name: (key,) for name, key in NUMBER.items()},
    "detail": ("2", "enter"),
    "filter": ("2", "slash", "a", "enter"),
    "columns": ("2", "c"),
    "help": ("question_mark",),
    "question": ("x",),
    "palette": ("ctrl+p",),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_resized_to_20x5_and_back_everything_is_as_before(way: tuple[str, ...]) -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, *way)
        before = screen_text(app)
        for size in ((20, 5), (1, 1), (300, 100), (5, 40), LARGE, SMALL):
            await pilot.resize_terminal(*size)
            await settle(pilot)
            app.pull()
            await settle(pilot)
        if "ctrl+p" not in way:
            assert screen_text(app) == before

    drive(script)


def test_started_in_a_tiny_terminal() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2", "down", "enter", "escape", "3", "4", "5", "1", "space", "question_mark", "escape")
        assert "q Quit" in screen_text(app)

    drive(script, size=(20, 5))


@pytest.mark.parametrize("name", MAIN)
def test_when_tracing_has_ended_a_banner_says_why_and_the_view_stays(name: str) -> None:
    engine = Recorded()

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, NUMBER[name])
        engine.changes = {
            "ended": "the last interface went away",
            "interfaces": tuple(replace(one, present=False) for one in app.latest.interfaces),
        }
        app.pull()
        await settle(pilot)
        text = screen_text(app)
        assert "the last interface went away" in text
        assert app.is_running
        await press(pilot, "2", "enter")
        assert f"Handshake 1 of {RECORDED}" in screen_text(app)

    drive(script, engine, LARGE)


def test_losses_cannot_be_overlooked() -> None:
    engine = Recorded()
    engine.changes = {"balance": replace_balance(engine, lost=3)}

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        assert "3 handshakes not shown" in screen_text(app)
        assert "LOST 3" in screen_text(app)
        await press(pilot, "5")
        assert "3 counted twice" in screen_text(app)

    drive(script, engine, LARGE)


def replace_balance(engine: Recorded, **changes: int) -> object:
    """The balance with some terms changed."""
    import msgspec

    return msgspec.structs.replace(engine.snapshot().balance, **changes)


@pytest.mark.parametrize("theme", CYCLE)
def test_every_screen_in_every_theme(theme: str) -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        for key in ("2", "c", "escape", "enter", "question_mark", "escape", "3", "4", "5", "1", "x", "escape", "t"):
            await press(pilot, key)
            assert screen_text(app).strip()

    drive(script, theme=theme)


def test_no_color_leaves_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        assert "✗ 120 of 1,311 handshakes failed" in screen_text(app)
        await press(pilot, "2", "t", "t", "t", "t")
        for segment in (s for y in range(app.size.height - 3) for s in app.handshakes.list.render_line(y)):
            assert segment.text is not None
        assert re.search("[✓~✗] [a-z]+", screen_text(app))

    drive(script)


def test_an_exception_leaves_the_app_and_is_raised_behind_it(capfd: pytest.CaptureFixture[str]) -> None:
    engine = Recorded()

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        engine.failure = RuntimeError("the engine broke")
        app.pull()

    with pytest.raises(RuntimeError, match="the engine broke"):
        drive(script, engine)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("fails", [False, True])
def test_run_stops_the_engine_and_gives_0_or_raises(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Recorded(share=0.1)

    async def headless(app: Dashboard) -> None:
        async with app.run_test(size=SMALL) as pilot:
            await pilot.pause()
            if fails:
                app._handle_exception(RuntimeError("broke"))
                app._exception = None  # what run_test would raise is run()'s business here
            else:
                await pilot.press("q")

    monkeypatch.setattr(app_module.Dashboard, "run_async", headless)
    if fails:
        with pytest.raises(RuntimeError, match="broke"):
            run(engine)
    else:
        assert run(engine) == 0
    assert engine.stopped == 1


def test_it_leaves_by_itself_when_asked_to() -> None:
    engine = Recorded(share=0.1)
    engine.changes = {"ended": "duration"}

    async def main() -> None:
        app = Dashboard(engine, leave_when_ended=True, pull_s=0)
        async with app.run_test(size=SMALL) as pilot:
            await pilot.pause()
            app.pull()
            await pilot.pause()
            assert app._exit

    import asyncio

    asyncio.run(main())


def test_first_theme_fits_the_terminal() -> None:
    assert first_theme("truecolor", {}) == "tfotrace-dark"
    assert first_theme("256", {"COLORFGBG": "0;15"}) == "tfotrace-light"
    assert first_theme("standard", {"COLORFGBG": "15;0"}) == "ansi-dark"
    assert first_theme(None, {"COLORFGBG": "0;7"}) == "ansi-light"
    assert next_theme("something else") == CYCLE[0]
