"""The list of handshakes: order, filter, following, and that only rows on the screen are composed."""

from __future__ import annotations

import numpy as np
import pytest
from textual.events import MouseScrollDown, MouseScrollUp
from textual.pilot import Pilot

from tests.tui.driving import LARGE, SIZES, drive, press, screen_text, settle, until
from tests.tui.recorded import RECORDED, Recorded
from tracer.store.list_columns import COLUMNS, sort_keys
from tui.app import Dashboard
from tui.filtering import parse
from tui.handshake_rows import default_columns, list_column
from tui.order import BY_TIME, Timeline, arrange
from tui.screens.help import Help
from tui.widgets.row_list import GAP, LAST_LEAST, WHEEL_ROWS

sizes = pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("name", COLUMNS)
def test_every_column_sorts_with_the_unknown_last(name: str, descending: bool) -> None:
    rows = Recorded().snapshot().rows
    order = arrange(rows, None, name, descending)
    assert sorted(order.indexes.tolist()) == list(range(len(rows)))
    keys = sort_keys(rows, name)[order.indexes]
    if keys.dtype.kind == "f":
        unknown = np.isnan(keys)
        assert not (unknown[:-1] & ~unknown[1:]).any(), "something known behind something unknown"
        keys = keys[~unknown]
    steps = keys[:-1] >= keys[1:] if descending else keys[:-1] <= keys[1:]
    assert steps.all()
    times = sort_keys(rows, BY_TIME)[order.indexes]
    same = np.flatnonzero(keys[:-1] == keys[1:])
    assert (times[same] >= times[same + 1]).all(), "equal ones are not newest first"


def test_positions_and_rows_agree_in_every_kind_of_order() -> None:
    rows = Recorded().snapshot().rows
    for text, sort, descending in (
        ("", BY_TIME, True), ("", BY_TIME, False), ("group == failed", BY_TIME, True), ("", "rtt", False),
    ):  # fmt: skip
        order = arrange(rows, parse(text), sort, descending)
        assert len(order)
        for position in (0, len(order) // 2, len(order) - 1):
            assert order.position_of(order.number_at(position)) == position
        assert order.position_of(rows.first + len(rows)) is None
        with pytest.raises(IndexError):
            order.row_at(len(order))


@pytest.mark.parametrize("width", [20, 79, 80, 89, 90, 102, 103, 119, 120, 139, 140, 159, 160, 189, 190, 200, 240, 300])
def test_the_columns_to_begin_with_fit(width: int) -> None:
    names = default_columns(width)
    widths = [list_column(name).width for name in names]
    widths[-1] = min(widths[-1], LAST_LEAST)
    assert sum(widths) + GAP * (len(widths) - 1) <= max(width, 80)
    assert "time" in names


@sizes
def test_sort_goes_through_the_columns_and_back_to_time(size: tuple[int, int]) -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2")
        screen = app.handshakes
        for column in screen.columns[1:]:
            await press(pilot, "s")
            assert screen.sort == column
            assert screen.source.order is not None
            assert screen.following
            assert screen.list.cursor == 0
            marked = [word for word in screen_text(app).splitlines()[2].split() if word[-1] in "▼▲"]
            assert len(marked) == 1
            before = screen.source.order.row_at(0)
            await press(pilot, "S")
            # nothing in the recording has a cause
            assert screen.source.order.row_at(0) != before or column == "cause"
        await press(pilot, "s")
        assert screen.sort == BY_TIME
        assert "newest first" in screen_text(app)

    drive(script, size=size)


def test_a_click_on_a_heading_sorts_by_it_and_again_turns_it_round() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2")
        x = screen_text(app).splitlines()[2].index("Server")
        await pilot.click(offset=(x, 2))
        await settle(pilot)
        assert (app.handshakes.sort, app.handshakes.descending) == ("server", False)
        await pilot.click(offset=(x, 2))
        await settle(pilot)
        assert (app.handshakes.sort, app.handshakes.descending) == ("server", True)

    drive(script)


def test_a_click_selects_and_a_second_one_opens() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2")
        await pilot.click(offset=(5, 7))
        await settle(pilot)
        assert app.handshakes.list.cursor == 4
        await pilot.click(offset=(5, 7))
        await settle(pilot)
        assert "Handshake 5 of" in screen_text(app)

    drive(script)


@sizes
def test_filter_says_whether_it_is_valid_while_typed(size: tuple[int, int]) -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2", "slash")
        line = app.handshakes.filter_line
        await press(pilot, *"rtt")
        assert not line.valid
        assert "✗ not valid" in screen_text(app)
        await press(pilot, "space", ">", "space", *"50us")
        assert line.valid
        assert "✓ valid" in screen_text(app)
        await press(pilot, "enter")
        assert app.handshakes.list.has_focus
        source = app.handshakes.source
        assert 0 < len(source) < RECORDED
        for position in range(0, len(source), 50):
            assert (source.record(position).handshake.rtt_us or 0) > 50
        assert f"{len(source):,} of {RECORDED:,} shown" in screen_text(app)
        await press(pilot, "escape")
        assert len(app.handshakes.source) == RECORDED
        assert not line.is_open

    drive(script, size=size)


def test_help_is_reached_from_the_filter_and_a_question_mark_can_be_typed() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        line = app.handshakes.filter_line
        await press(pilot, "2", "slash")
        assert "f1 explains filters" in screen_text(app)
        for key in ("question_mark", "f1"):
            await press(pilot, key)
            assert isinstance(app.screen, Help)
            assert "joined by and, or, not" in screen_text(app)
            assert "One row per handshake" not in screen_text(app), "that comes after the filters"
            await press(pilot, key)
            assert app.screen is app.handshakes
            assert line.input.has_focus
            assert line.input.value == ""
        await press(pilot, *"s?", "f1")
        assert isinstance(app.screen, Help)
        await press(pilot, "escape")
        assert line.input.value == "s?"
        await press(pilot, "home", "question_mark", "down", "f1")
        assert line.input.value == "?s?"
        assert isinstance(app.screen, Help)
        await press(pilot, "f1", "question_mark")
        assert "One row per handshake" in screen_text(app), "outside the filter it begins with the screen"

    drive(script)


def test_an_invalid_filter_changes_nothing_and_enter_stays_there() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2", "slash", *"group", "enter")
        assert len(app.handshakes.source) == RECORDED
        assert app.handshakes.filter_line.input.has_focus
        await press(pilot, "escape")
        assert app.handshakes.list.has_focus

    drive(script)


def test_a_valid_filter_counts_when_typing_rests() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2", "slash", *"login")
        await until(pilot, lambda: len(app.handshakes.source) < RECORDED, "the filter counted")
        assert app.handshakes.filter_line.input.has_focus

    drive(script)


def test_filter_from_another_screen() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "4", "slash", *"x1")
        assert app.current.NAME == "handshakes"
        assert app.handshakes.filter_line.input.value == "x1"

    drive(script)


@sizes
def test_following_stays_with_the_newest_and_moving_away_ends_it(size: tuple[int, int]) -> None:
    engine = Recorded(share=0.5)

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2")
        screen = app.handshakes

        def newest() -> int:
            return app.latest.rows.first + int(sort_keys(app.latest.rows, BY_TIME).argmax())

        def selected() -> int:
            assert screen._place is not None
            return screen._place.number

        async def arrive() -> None:
            assert engine.feed(50)
            app.pull()
            await settle(pilot)

        await arrive()
        assert screen.list.cursor == 0
        assert selected() == newest()
        await press(pilot, "down", "down", "down")
        kept, row = selected(), screen_text(app).splitlines()[3 + 3][:70]
        assert "not following" in screen_text(app)
        await arrive()
        assert selected() == kept
        assert screen.list.cursor > 3
        assert screen_text(app).splitlines()[3 + 3][:70] == row, "the selected row moved on the screen"
        await press(pilot, "f")
        assert selected() == newest()
        await press(pilot, "f")
        chosen = selected()
        await arrive()
        assert selected() == chosen
        await press(pilot, "home")
        await arrive()
        assert selected() == newest(), "at the newest one it follows again"

    drive(script, engine, size)


def test_following_works_with_the_newest_at_the_bottom() -> None:
    engine = Recorded(share=0.5)

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2", "S")
        assert engine.feed(50)
        app.pull()
        await settle(pilot)
        assert app.handshakes.list.cursor == len(app.latest.rows) - 1

    drive(script, engine)


def test_a_sorted_list_takes_new_rows() -> None:
    engine = Recorded(share=0.5)

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2", "s", "s")
        before = len(app.handshakes.source)
        new = engine.feed(50)
        await until(pilot, lambda: len(app.handshakes.source) == before + new, "the new rows are in the list")

    drive(script, engine)


def test_rows_that_are_let_go_take_the_selection_along() -> None:
    engine = Recorded(share=0.5, limit=100)

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2", "end")
        assert engine.feed(400) > 100
        app.pull()
        await settle(pilot)
        assert len(app.handshakes.source) == 100
        assert "older ones dropped" in screen_text(app)
        await press(pilot, "enter")
        assert "Handshake 100 of 100" in screen_text(app)

    drive(script, engine)


@pytest.mark.parametrize("limit", [100_000, 700])
def test_what_settles_late_goes_to_its_place(limit: int) -> None:
    engine, timeline = Recorded(share=0.0, limit=limit), Timeline()
    moved = 0
    while engine.feed(7):
        rows = engine.snapshot().rows
        times = sort_keys(rows, BY_TIME)
        moved += int((np.diff(times) < 0).sum())
        order = arrange(rows, None, BY_TIME, True, timeline).indexes
        assert (order == np.argsort(times, kind="stable")[::-1]).all()
    assert moved, "nothing settled late"


def test_a_timeline_goes_back_to_an_earlier_snapshot_and_over_a_clearing() -> None:
    engine, timeline = Recorded(share=0.3), Timeline()
    earlier = engine.snapshot().rows
    engine.feed(40)
    later = engine.snapshot().rows
    engine.clear()
    engine.feed(40)
    for rows in (earlier, later, earlier, engine.snapshot().rows, later):
        expected = np.argsort(sort_keys(rows, BY_TIME), kind="stable")
        assert (timeline.of(rows)[0] == expected).all()


def _height(app: Dashboard) -> int:
    shown = app.handshakes.list
    return shown.cursor - shown.scroll_offset.y


async def _filter(pilot: Pilot[None], app: Dashboard, text: str) -> None:
    app.handshakes.filter_line.set_text(text)
    await settle(pilot)


@sizes
def test_a_filter_keeps_the_row_that_one_looks_at(size: tuple[int, int]) -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2", "pagedown", "pagedown", "pagedown", "up", "up")
        screen = app.handshakes
        chosen, height = screen.record_at(screen.list.cursor), _height(app)
        assert chosen is not None
        await _filter(pilot, app, f"result == {chosen.handshake.result}")
        assert len(screen.source) < RECORDED
        assert screen.record_at(screen.list.cursor) == chosen
        assert _height(app) == height

        await _filter(pilot, app, f"not id == {chosen.id}")
        order = screen.source.order
        assert order is not None
        assert screen._place is not None
        away = np.abs(sort_keys(order.rows, BY_TIME)[order.indexes].astype(np.int64) - screen._place.syn_ns)
        assert away[screen.list.cursor] == away.min(), "another one is nearer"

        await _filter(pilot, app, "port == 1")
        assert not len(screen.source)
        await press(pilot, "escape")
        assert screen.record_at(screen.list.cursor) == chosen, "it comes back"
        assert _height(app) == height

    drive(script, size=size)


@sizes
def test_a_sort_keeps_the_row_that_one_looks_at(size: tuple[int, int]) -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2", "pagedown", "pagedown", "pagedown", "up")
        screen = app.handshakes
        chosen, height = screen.record_at(screen.list.cursor), _height(app)
        for key in ("s", "S", "s"):
            await press(pilot, key)
            assert screen.record_at(screen.list.cursor) == chosen
            most = screen.list.max_scroll_y
            assert _height(app) == height or screen.list.scroll_offset.y in (0, most), "the list ends there"

    drive(script, size=size)


def test_the_wheel_takes_the_selection_along() -> None:
    engine = Recorded(share=0.5)

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2", "down", "down")
        shown = app.handshakes.list
        await pilot._post_mouse_events([MouseScrollDown], shown, offset=(5, 5))
        await settle(pilot)
        assert (shown.cursor, shown.scroll_offset.y) == (2 + WHEEL_ROWS, WHEEL_ROWS)
        chosen = app.handshakes.record_at(shown.cursor)
        engine.feed(50)
        app.pull()
        await settle(pilot)
        assert app.handshakes.record_at(shown.cursor) == chosen
        assert _height(app) == 2
        await pilot._post_mouse_events([MouseScrollUp] * 3, shown, offset=(5, 5))
        await settle(pilot)
        assert not app.handshakes.following

    drive(script, engine)


def test_only_rows_on_the_screen_are_composed(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Recorded()
    composed: list[int] = []
    record = engine.store._record

    def counted(number: int, part: object) -> object:
        composed.append(number)
        return record(number, part)  # type: ignore[arg-type]

    monkeypatch.setattr(engine.store, "_record", counted)

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2", "pagedown", "pagedown", "s", "S")
        app.pull()
        await settle(pilot)
        assert 0 < len(composed) < 5 * 40
        composed.clear()
        for _ in range(5):
            app.pull()
            app.handshakes.list.refresh()
            await settle(pilot)
        assert not composed, "rows were made again"

    drive(script, engine, LARGE)


def test_while_what_is_typed_is_not_valid_the_list_shows_what_it_showed_before() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2", "slash", *"rt")
        await until(pilot, lambda: not app.handshakes.source, "the begin of a word is a filter that finds nothing")
        await press(pilot, "t")
        await until(pilot, lambda: len(app.handshakes.source) == RECORDED, "a field alone is none")

    drive(script)


def test_while_a_filter_is_changed_into_none_it_stays() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        app.handshakes.set_filter("result == reset")
        await press(pilot, "2", "slash", *" and rt")
        await until(pilot, lambda: app.handshakes.filter_text == "result == reset and rt", "that is valid")
        await press(pilot, "t")
        await until(pilot, lambda: app.handshakes.filter_text == "result == reset", "that is not")
        await settle(pilot)
        assert screen_text(app).splitlines()[1].endswith("filter result == reset")

    drive(script)
