"""Every key does what its help says, on every screen where it is valid, in both sizes."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Event
from typing import Any

import msgspec
import pytest
from rich.cells import cell_len
from textual.pilot import Pilot
from textual.widgets import Button

from tests.support.patience import PATIENCE_S
from tests.tui.driving import LARGE, SIZES, SMALL, drive, press, screen_text, settle, until
from tests.tui.recorded import Recorded
from tracer.aggregate.worth import difference_words
from tracer.records.record import Handshake
from tracer.store.chunks import StoreRows
from tracer.words.ladder import ladder_lines
from tui.actions import ACTIONS, MAIN, SUMMED_UP, TITLES, actions_of, footer_of
from tui.app import Dashboard
from tui.order import Order, arrange
from tui.screens.detail import Detail
from tui.screens.help import Help
from tui.themes import CYCLE
from tui.widgets.chooser import Chooser
from tui.widgets.question import Question

NUMBER = {name: str(number) for number, name in enumerate(MAIN, start=1)}
sizes = pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")


@sizes
def test_number_keys_show_the_five_screens_filled(size: tuple[int, int]) -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        for name, key in NUMBER.items():
            await press(pilot, key)
            assert name == app.current.NAME
            text = screen_text(app)
            filled = [line for line in text.splitlines() if line.strip()]
            assert len(filled) > size[1] * 0.8, f"{name} is empty:\n{text}"

    drive(script, size=size)


@sizes
@pytest.mark.parametrize("name", [*MAIN, "detail"])
def test_help_names_every_key_of_its_screen(name: str, size: tuple[int, int]) -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, *(("2", "enter") if name == "detail" else (NUMBER[name],)))
        await press(pilot, "question_mark")
        assert isinstance(app.screen, Help)
        words = "\n".join("".join(part[0] for part in line) for line in app.screen.text.lines)
        for one in actions_of(name):
            assert f"{one.title}: {one.help.split()[0]}" in words
            assert f"({one.id})" in words
        assert TITLES[name] in screen_text(app)
        await press(pilot, "escape")
        assert name == app.current.NAME
        assert not isinstance(app.screen, Help)

    drive(script, size=size)


@pytest.mark.parametrize("name", [*MAIN, "detail"])
def test_every_action_is_there_where_the_list_says(name: str) -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, *(("2", "enter") if name == "detail" else (NUMBER[name],)))
        for one in actions_of(name):
            target: object = app if one.run.startswith("app.") else app.screen
            method = "action_" + one.run.removeprefix("app.").partition("(")[0]
            assert hasattr(target, method), f"{one.id} has no {method}"
            for key in one.keys:
                bound = app.screen.active_bindings.get(key)
                assert bound is not None, f"{one.id}: {key} is not bound"

    drive(script)


@pytest.mark.parametrize("name", MAIN)
def test_no_key_means_two_things_on_a_screen(name: str) -> None:
    keys = [key for one in actions_of(name) for key in one.keys]
    assert len(keys) == len(set(keys))


def test_footer_names_keys_of_the_list_and_a_click_does_what_the_key_does() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        footer = screen_text(app).splitlines()[-1]
        assert footer_of("overview")[0].title in footer
        assert "? Help" in footer
        assert "q Quit" in footer
        await pilot.click(offset=(footer.index("Pause"), 23))
        await settle(pilot)
        assert app.frozen is not None

    drive(script)


def test_a_click_on_a_title_shows_that_screen() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await pilot.click(offset=(screen_text(app).splitlines()[0].index("Peers"), 0))
        await settle(pilot)
        assert app.current.NAME == "peers"

    drive(script)


@pytest.mark.parametrize("name", MAIN)
def test_pause_freezes_the_view_and_counts_what_is_new(name: str) -> None:
    engine = Recorded(share=0.5)

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, NUMBER[name], "space")
        before = screen_text(app).splitlines()[1:]
        new = engine.feed(100)
        assert new
        app.pull()
        await settle(pilot)
        assert screen_text(app).splitlines()[1:] == before
        assert f"paused +{new} new" in screen_text(app)
        await press(pilot, "space")
        assert "paused" not in screen_text(app)
        if name != "health":  # its numbers are the kernel side's
            assert screen_text(app).splitlines()[1:] != before

    drive(script, engine, LARGE)


def test_clear_asks_and_no_means_no() -> None:
    engine = Recorded()

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        for key in ("n", "escape", "enter"):
            await press(pilot, "x")
            assert isinstance(app.screen, Question)
            await press(pilot, key)
            assert not isinstance(app.screen, Question)
        assert engine.cleared == 0
        await press(pilot, "x", "y")
        assert engine.cleared == 1
        assert "No handshake has settled yet" in screen_text(app)
        await press(pilot, "2")
        assert "no handshake to show" in screen_text(app)
        await press(pilot, "enter", "y", "e")
        assert app.current.NAME == "handshakes"

    drive(script, engine)


def test_clear_by_mouse() -> None:
    engine = Recorded()

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "x")
        await pilot.click(Button)
        await settle(pilot)
        assert engine.cleared == 1

    drive(script, engine)


def test_theme_goes_round() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        seen = []
        for _ in CYCLE:
            seen.append(app.theme)
            await press(pilot, "t")
        assert sorted(seen) == sorted(CYCLE)
        assert app.theme == seen[0]

    drive(script)


def test_palette_holds_the_actions_of_the_screen_and_runs_them() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        titles = [command.title for command in app.get_system_commands(app.screen)]
        assert titles == [one.title for one in actions_of("overview") if one.palette]
        await press(pilot, "ctrl+p")
        assert app.screen.__class__.__name__ == "CommandPalette"
        await pilot.press(*"Statistics")
        palette = app.screen
        await until(pilot, lambda: bool(palette.query_one("CommandList").option_count), "the palette found something")  # type: ignore[attr-defined]
        await press(pilot, "enter")
        await until(pilot, lambda: app.current.NAME == "statistics", "the palette ran it")

    drive(script)


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
@pytest.mark.parametrize("before", [(), ("2", "enter"), ("2", "slash"), ("3",), ("5",)])
def test_quit_from_anywhere(key: str, before: tuple[str, ...]) -> None:
    if key == "q" and "slash" in before:
        before = (*before, "enter")  # a q that is typed is a letter

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, *before)
        await pilot.press(key)
        await pilot.pause()
        assert not app.is_running or app._exit

    drive(script)


def test_detail_opens_steps_copies_and_closes() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2", "down", "down", "enter")
        detail = app.screen
        assert isinstance(detail, Detail)
        assert "Handshake 3 of" in screen_text(app)
        await press(pilot, "n")
        assert "Handshake 4 of" in screen_text(app)
        await press(pilot, "p", "p")
        assert "Handshake 2 of" in screen_text(app)
        await press(pilot, "y")
        assert json.loads(app.clipboard)["id"] == detail.record.id
        await press(pilot, "escape")
        assert app.current.NAME == "handshakes"
        assert app.handshakes.list.cursor == 1

    drive(script)


def test_number_keys_leave_the_detail() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2", "enter", "3")
        assert app.current.NAME == "peers"
        await press(pilot, "2")
        assert app.current.NAME == "handshakes"

    drive(script)


def test_copy_gives_the_selected_record_as_json() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2", "down", "y")
        copied = msgspec.json.decode(app.clipboard, type=Handshake)
        assert copied == app.handshakes.record_at(1)
        await press(pilot, "3", "y")
        peer = json.loads(app.clipboard)
        assert peer["role"] == "server"
        assert peer["handshakes"] > 0

    drive(script)


def test_export_writes_what_is_shown_and_never_overwrites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2")
        app.handshakes.set_filter("group == failed")
        await settle(pilot)
        await press(pilot, "e", "e")
        files = sorted(tmp_path.glob("tfotrace-*.jsonl"))  # noqa: ASYNC240
        assert len(files) == 2
        for file in files:
            records = [msgspec.json.decode(line, type=Handshake) for line in file.read_bytes().splitlines()]
            assert len(records) == len(app.handshakes.source)
            assert {record.tfo.group for record in records} == {"failed"}
        assert any(files[0].name in str(note.message) for note in app._notifications)

    drive(script)


def test_export_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tui.screens.handshakes.write_export", refuse)

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2", "e")
        assert any("No space left" in str(note.message) and note.severity == "error" for note in app._notifications)

    drive(script)


@pytest.mark.parametrize("way", [("2", "down"), ("2", "down", "enter")], ids=["list", "detail"])
def test_the_ladder_is_copied_and_exported_as_text(
    way: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, *way, "Y")
        record = app.handshakes.record_at(1)
        assert record is not None
        copied = app.clipboard.splitlines()
        assert app.clipboard.replace("\n", "").isprintable()
        assert max(cell_len(line) for line in copied) <= 80
        for line in ladder_lines(record, 72):
            assert "".join(text for text, _ in line).rstrip() in copied
        await press(pilot, "E", "E")
        files = sorted(tmp_path.glob("tfotrace-*.txt"))  # noqa: ASYNC240
        assert [file.read_text() for file in files] == [app.clipboard] * 2
        assert any(files[0].name in str(note.message) for note in app._notifications)

    drive(script)


def test_columns_are_chosen() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2", "c")
        assert isinstance(app.screen, Chooser)
        assert "[x] Time" in screen_text(app)
        await press(pilot, "space", "down", "space", "enter")
        assert "time" not in app.handshakes.columns
        assert "interface" in app.handshakes.columns
        heading = screen_text(app).splitlines()[2]
        assert "Interface" in heading
        assert "Time" not in heading
        await press(pilot, "c", "space", "escape")
        assert "time" not in app.handshakes.columns
        await press(pilot, "c", "d")
        assert "time" in app.handshakes.columns

    drive(script)


def test_peers_drill_down_to_their_handshakes() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "3", "down", "down")
        peers = app.current
        peer = peers.selected  # type: ignore[attr-defined]
        await press(pilot, "enter")
        assert app.current.NAME == "handshakes"
        source = app.handshakes.source
        assert len(source) == peer.handshakes
        assert {(source.record(at).server.ip, source.record(at).server.port) for at in range(len(source))} == {
            (peer.ip, peer.port)
        }

    drive(script)


def test_a_server_is_shown_with_what_fast_open_is_worth_there() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "3")
        screen = app.current
        titles = [one.column.title for one in screen.source.columns]  # type: ignore[attr-defined]
        assert {"First answer", "Samples"} <= set(titles)
        peer = screen.selected  # type: ignore[attr-defined]
        assert peer.sooner_us is not None
        words, samples = difference_words(peer), f"{peer.tfo_samples} against {peer.normal_samples}"
        assert f"{peer.tfo_samples}/{peer.normal_samples}" in screen_text(app)
        await press(pilot, "enter")
        assert f"first response with TFO: {words}, {samples}" in screen_text(app)
        # with any other filter these are not that server's handshakes only
        app.handshakes.set_filter("tfo")
        await settle(pilot)
        assert "first response with TFO" not in screen_text(app)

    drive(script, size=(200, 50))


@pytest.mark.parametrize("cells", [80, 90, 100, 120])
def test_what_fast_open_is_worth_at_a_server_is_told_in_the_words_that_fit(cells: int) -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "3")
        peer = app.current.selected  # type: ignore[attr-defined]
        await press(pilot, "enter")
        state = screen_text(app).splitlines()[1]
        assert difference_words(peer, 14) in state
        assert state.rstrip().endswith((f"{peer.tfo_samples}/{peer.normal_samples}", f"against {peer.normal_samples}"))

    drive(script, size=(cells, 24))


def test_peers_sort_by_each_column_and_turn_round() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "3")
        screen = app.current
        for _ in screen.source.columns:  # type: ignore[attr-defined]
            await press(pilot, "s")
            column = next(one for one in screen.source.columns if one.column.id == screen.sort)  # type: ignore[attr-defined]
            keys = [column.key(peer) for peer in screen.source.things]  # type: ignore[attr-defined]
            assert keys == sorted(keys, reverse=screen.descending)  # type: ignore[attr-defined]
            await press(pilot, "S")
            keys = [column.key(peer) for peer in screen.source.things]  # type: ignore[attr-defined]
            assert keys == sorted(keys, reverse=screen.descending)  # type: ignore[attr-defined]

    drive(script, size=SMALL)


def test_a_screen_that_is_left_releases_what_it_listed_and_finds_its_row_again() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "3", "down", "down")
        screen = app.current
        peer = screen.selected  # type: ignore[attr-defined]
        assert screen._styles_cache._cache
        await press(pilot, "1")
        assert len(screen.source) == len(screen.list.source) == 0  # type: ignore[attr-defined]
        assert not screen._styles_cache._cache
        await press(pilot, "3")
        assert screen.selected == peer  # type: ignore[attr-defined]
        assert screen.list.cursor == 2  # type: ignore[attr-defined]

    drive(script)


def test_a_list_that_is_left_drops_what_was_cached_for_its_order() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2", "s")
        chunks = app.latest.rows.chunks
        for chunk in chunks:
            chunk.cached("some keys", lambda rows: rows.column("some column", len))
        await press(pilot, "1")
        assert not any(chunk._cache or chunk._kept for chunk in chunks)

    drive(script)


def test_a_list_that_is_left_while_it_is_sorted_keeps_nothing_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, left = Event(), Event()

    def slowly(rows: StoreRows, *how: Any) -> Order:
        begun.set()
        assert left.wait(PATIENCE_S)
        for chunk in rows.chunks:  # as of a full one
            chunk.cached("some keys", lambda some: some.column("some column", len))
        return arrange(rows, *how)

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2")
        chunks = app.latest.rows.chunks
        monkeypatch.setattr("tui.screens.handshakes.arrange", slowly)
        await pilot.press("s")
        await until(pilot, begun.is_set, "the list is being sorted")
        await pilot.press("1")
        left.set()
        await settle(pilot)
        assert app.handshakes.snapshot is None
        assert not any(chunk._cache or chunk._kept for chunk in chunks)

    drive(script)


def test_the_window_is_chosen_only_where_it_is_summed_up() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        for name, key in NUMBER.items():
            await press(pilot, key)
            before = app.window
            await press(pilot, "w")
            assert (app.window is not before) == (name in SUMMED_UP)
            assert ("w Window" in screen_text(app).splitlines()[-1]) == (name in SUMMED_UP)
        await press(pilot, "3")
        assert "all handshakes" in screen_text(app).splitlines()[1]
        await press(pilot, "5", "left_square_bracket")
        assert app.frozen is None, "what Health shows has no past"

    drive(script)


def test_every_action_is_driven_by_some_test() -> None:
    driven = {
        *(f"show_{name}" for name in MAIN), "detail", "drill", "filter", "filter_elsewhere", "back", "sort", "reverse",
        "pause", "follow", "columns", "copy", "export", "next", "previous", "clear", "theme", "palette", "help", "quit",
        "copy_ladder", "export_ladder", "follow_way", "save_settings", "listeners",
        # in test_walk.py
        "window", "earlier", "later", "much_earlier", "much_later",
    }  # fmt: skip
    assert {one.id for one in ACTIONS} == driven
