"""Keys of vi and less move in lists, panels, help and chooser; q and esc close what lies over a screen first."""

from __future__ import annotations

import pytest
from textual.pilot import Pilot

from tests.tui.driving import LARGE, SMALL, drive, press, screen_text, settle
from tui.actions import ACTIONS, MAIN, MOVES
from tui.app import Dashboard
from tui.screens.help import Help
from tui.widgets.chooser import Chooser
from tui.widgets.question import Question


@pytest.mark.parametrize("name", ["2", "3"])
def test_letters_move_in_lists_as_arrows_do(name: str) -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, name)
        rows = app.current.list  # type: ignore[attr-defined]
        last = len(rows.source) - 1
        await press(pilot, "j", "j", "k")
        assert rows.cursor == 1
        await press(pilot, "G")
        assert rows.cursor == last
        await press(pilot, "g")
        assert rows.cursor == 0
        page = min(rows.page_rows, last)
        await press(pilot, "ctrl+f")
        assert rows.cursor == page
        await press(pilot, "ctrl+b")
        assert rows.cursor == 0
        await press(pilot, "ctrl+d")
        assert rows.cursor == min(rows.page_rows // 2, last)
        await press(pilot, "ctrl+u")
        assert rows.cursor == 0

    drive(script)


@pytest.mark.parametrize("way", [("2", "enter"), ("question_mark",)], ids=["detail", "help"])
def test_letters_scroll_what_is_long(way: tuple[str, ...]) -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, *way)
        panel = app.screen.focused
        assert panel is not None
        await press(pilot, "j", "j", "k")
        assert panel.scroll_offset.y == 1
        await press(pilot, "G")
        bottom = panel.max_scroll_y
        assert panel.scroll_offset.y == bottom > 1
        await press(pilot, "g")
        assert panel.scroll_offset.y == 0
        height = panel.scrollable_content_region.height
        for key, to in (("ctrl+d", height // 2), ("ctrl+u", 0), ("ctrl+f", height), ("ctrl+b", 0)):
            await press(pilot, key)
            assert panel.scroll_offset.y == min(to, bottom)

    drive(script, size=(80, 14))


@pytest.mark.parametrize("name", ["4", "5"])
def test_a_panel_that_cannot_scroll_leaves_the_key_to_the_grid(name: str) -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, name)
        grid = app.screen.query_one("PanelGrid")
        for down, up in (("j", "k"), ("ctrl+d", "ctrl+u"), ("ctrl+f", "ctrl+b"), ("G", "g")):
            before = grid.scroll_offset.y
            panel = app.screen.focused
            assert panel is not None
            moves = panel if panel.allow_vertical_scroll else grid
            await press(pilot, down)
            assert moves.scroll_offset.y > before
            await press(pilot, up)
            assert moves.scroll_offset.y == before

    drive(script)


def test_letters_move_in_the_chooser() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2", "c")
        chooser = app.screen
        assert isinstance(chooser, Chooser)
        await press(pilot, "j", "j", "k")
        assert chooser.list.highlighted == 1
        await press(pilot, "G")
        assert chooser.list.highlighted == chooser.list.option_count - 1
        await press(pilot, "g")
        assert chooser.list.highlighted == 0

    drive(script)


@pytest.mark.parametrize("key", ["q", "escape", "ctrl+c"])
@pytest.mark.parametrize(("way", "kind"), [(("question_mark",), Help), (("x",), Question), (("2", "c"), Chooser)])
def test_q_closes_what_lies_over_a_screen_and_only_then_leaves(key: str, way: tuple[str, ...], kind: type) -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, *way)
        assert isinstance(app.screen, kind)
        await press(pilot, key)
        assert not isinstance(app.screen, kind)
        assert app.is_running
        assert not app._exit
        await pilot.press("q")
        await pilot.pause()
        assert app._exit

    drive(script)


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("name", [*MAIN, "detail"])
def test_help_says_the_moving_keys(name: str, size: tuple[int, int]) -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, *(("2", "enter") if name == "detail" else (str(MAIN.index(name) + 1),)), "question_mark")
        await settle(pilot)
        assert isinstance(app.screen, Help)
        words = "\n".join("".join(part[0] for part in line) for line in app.screen.text.lines)
        assert "j k" in words
        assert "ctrl+b ctrl+f" in words
        assert "Help" in screen_text(app)

    drive(script, size=size)


def test_no_action_has_a_key_that_moves() -> None:
    moving = {key for one in MOVES for key in one.keys.split(",")}
    assert not moving & {key for one in ACTIONS for key in one.keys}
