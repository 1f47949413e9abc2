"""tfotrace.toml: what it sets, what is said of mistakes, and that it is written only where asked to."""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from textual.pilot import Pilot

from tests.tui.driving import LARGE, Script, press, screen_text, settle
from tests.tui.recorded import Recorded
from tracer.aggregate.history import Window
from tui.actions import ACTIONS, EVERYWHERE, actions_of
from tui.app import Dashboard
from tui.order import BY_TIME
from tui.rebinding import KeysError, rebound, shown
from tui.screens.help import Help
from tui.settings import Settings, SettingsError, changed, parse
from tui.settings_file import Found, load, save, settings_path
from tui.themes import CYCLE
from tui.widgets.question import Question

FULL = """\
# mine
theme = "ansi-light" # for the beamer
columns = ["time", "server", "rtt"]
sort = "-rtt"
window = "1 h"

[keys]
pause = "P"
quit = ["Q", "ctrl+x"]
"""


def run(script: Script, settings: Found, engine: Recorded | None = None) -> Dashboard:
    """Run a script against the app with these settings."""

    async def main() -> Dashboard:
        app = Dashboard(engine if engine is not None else Recorded(), pull_s=0, settings=settings)
        app.animation_level = "none"
        async with app.run_test(size=LARGE) as pilot:
            await settle(pilot)
            await script(pilot, app)
        return app

    return asyncio.run(main())


def test_every_setting_counts() -> None:
    settings, unknown = parse(FULL)
    assert not unknown

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        assert app.theme == "ansi-light"
        assert app.window is Window.HOUR
        await press(pilot, "2")
        assert app.handshakes.columns == ("time", "server", "rtt")
        assert (app.handshakes.sort, app.handshakes.descending) == ("rtt", True)
        footer = screen_text(app).splitlines()[-1]
        assert "P Pause" in footer
        assert "Q Quit" in footer
        await press(pilot, "space")
        assert app.frozen is None
        await press(pilot, "P")
        assert app.frozen is not None
        await press(pilot, "question_mark")
        assert isinstance(app.screen, Help)
        lines = ["".join(part[0] for part in line) for line in app.screen.text.lines]
        assert any(line.startswith("P ") and "Pause" in line for line in lines)
        await press(pilot, "escape")
        says = [command.help for command in app.get_system_commands(app.screen)]
        assert any(one.endswith("(Q)") for one in says)
        await press(pilot, "q")
        assert not app._exit
        await pilot.press("ctrl+x")
        await pilot.pause()
        assert app._exit

    run(script, Found(Path("/nonexistent"), settings))


def test_without_a_file_all_is_as_ever() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        assert app.theme in CYCLE
        assert app.window is Window.FIVE_MINUTES
        assert (app.handshakes.sort, app.handshakes.descending) == (BY_TIME, True)
        assert not app._notifications
        assert app.actions == ACTIONS

    run(script, Found(Path("/nonexistent")))


def test_a_replay_begins_with_all_whatever_the_window() -> None:
    engine = Recorded()
    engine.changes = {"replay_of": "x.pcap"}

    async def script(_: Pilot[None], app: Dashboard) -> None:
        assert app.window is Window.ALL

    run(script, Found(Path("/nonexistent"), Settings(window=Window.MINUTE)), engine)


def test_a_replay_leaves_the_window_of_the_file(tmp_path: Path) -> None:
    engine = Recorded()
    engine.changes = {"replay_of": "x.pcap"}
    (tmp_path / "tfotrace.toml").write_text('window = "1 min"\n')

    async def script(pilot: Pilot[None], _: Dashboard) -> None:
        await press(pilot, "W", "y")

    run(script, load({"XDG_CONFIG_HOME": str(tmp_path)}), engine)
    assert load({"XDG_CONFIG_HOME": str(tmp_path)}).settings.window is Window.MINUTE
    assert load({"XDG_CONFIG_HOME": str(tmp_path)}).settings.theme in CYCLE


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('theme = "ansi-dark"\nsort = = 1\n', 2, "not TOML"),
        ("columns = [\n", 1, "not TOML"),
        ('# x\n\ntheme = "pink"\n', 3, "'pink' is no theme: use one of tfotrace-dark,"),
        ("theme = 3\n", 1, "no theme"),
        ('window = "5 min"\ncolumns = "time"\n', 2, "columns are a list"),
        ('columns = ["time",\n  "tim"]\n', 1, "'tim' is no column: use one of time"),
        ('sort = "--rtt"\n', 1, "'-rtt' is no column"),
        ('sort = "-"\n', 1, "no column"),
        ("sort = true\n", 1, "no column"),
        ('window = "2 min"\n', 1, "use one of 1m, 5m, 1h, all"),
        ("keys = 3\n", 1, "table"),
        ("[keys]\n\npause = []\n", 3, "pause needs a key"),
        ('[keys]\npause = "p"\nquit = "hugo"\n', 3, '"hugo" is no key'),
        ('[keys]\npause = "ctrl+p,x"\n', 2, "is no key"),
        ('sort = "-rtt"\n[keys]\npause = "P"\nsort = "j"\n', 4, "sort cannot have j, which moves"),
        ('keys.pause = "P"\nsort = "-rtt"\nkeys.sort = 3\n', 3, "sort needs a key"),
        ('columns = []\nkeys = { pause = "P", columns = 3 }\n', 2, "columns needs a key"),
        ('[keys]\nquit = "<ignore>"\n', 2, '"<ignore>" is no key'),
        ('[keys]\nquit = ["Q", "<any>"]\n', 2, '"<any>" is no key'),
        ('window = "1 h"\nwindow = "all"\n', 2, 'Key "window" already exists'),
        ('[keys]\npause = "j"\n', 2, "pause cannot have j, which moves"),
        ('[keys]\npause = "f"\n', 2, "pause and follow both have f on handshakes"),
    ],
)
def test_a_mistake_is_said_with_its_line(text: str, line: int, says: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"^line {line}: ") as raised:
        parse(text)
    assert says in str(raised.value)
    file = tmp_path / "tfotrace.toml"
    file.write_text(text)
    found = load({"XDG_CONFIG_HOME": str(tmp_path)})
    assert found.settings == Settings()
    assert found.says.startswith(f"{file}, line {line}: ")
    assert found.says.endswith("The dashboard goes by its defaults.")
    assert ".." not in found.says

    async def script(_: Pilot[None], app: Dashboard) -> None:
        assert any(found.says in str(note.message) and note.severity == "error" for note in app._notifications)

    if line == 3:  # some of them, for the time it takes
        run(script, found)


def test_unknown_names_are_said_and_the_rest_counts(tmp_path: Path) -> None:
    (tmp_path / "tfotrace.toml").write_text('colour = 1\ntheme = "ansi-dark"\n[keys]\nfly = "F"\n[other]\nx = 1\n')
    found = load({"XDG_CONFIG_HOME": str(tmp_path)})
    assert found.settings == Settings(theme="ansi-dark")
    assert "colour, other, keys.fly mean nothing here" in found.says
    assert found.says.endswith("Help (F1) names each action.")


def test_keys_can_change_places_and_every_key_of_an_action_can_be_given() -> None:
    assert [one.keys for one in rebound({"sort": ["f"], "follow": ["s"]}) if one.id in ("sort", "follow")] == [
        ("f",), ("s",)
    ]  # fmt: skip
    with pytest.raises(KeysError):
        rebound({"sort": ["f"]})
    for one in ACTIONS:
        assert rebound({one.id: [key for key in one.keys if not key.startswith("upper_")]}), one.id
    for screen in EVERYWHERE:
        assert actions_of(screen, rebound({})) == actions_of(screen)


def test_a_blank_is_the_space_key() -> None:
    assert [one.keys for one in rebound({"theme": [" "], "pause": ["p"], "previous": ["b"]}) if one.id == "theme"] == [
        ("space",)
    ]


def test_keys_without_a_picture_are_shown_by_their_names() -> None:
    assert [shown(name) for name in ("backspace", "delete", "tab", "escape", "a", "comma")] == [
        "backspace", "delete", "tab", "esc", "a", ","
    ]  # fmt: skip


def test_saving_asks_and_keeps_what_else_the_file_has(tmp_path: Path) -> None:
    file = tmp_path / "tfotrace.toml"
    file.write_text(FULL + "\n[other] # theirs\nx = 1\n")
    file.chmod(0o640)
    found = load({"XDG_CONFIG_HOME": str(tmp_path)})

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "t", "w", "W")
        assert isinstance(app.screen, Question)
        await press(pilot, "n")
        assert file.read_text().startswith(FULL)
        await press(pilot, "2", "s", "W", "y")
        assert any(str(file) in str(note.message) for note in app._notifications)

    app = run(script, found)
    text = file.read_text()
    assert "# mine\n" in text
    assert "# for the beamer" in text
    assert "[other] # theirs\nx = 1\n" in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tfotrace.toml"]
    again = load({"XDG_CONFIG_HOME": str(tmp_path)}).settings
    assert again.theme == app.theme != "ansi-light"
    assert again.window is Window.ALL
    assert again.columns == ("time", "server", "rtt")
    assert again.sort == (app.handshakes.sort, app.handshakes.descending)
    assert again.keys == parse(FULL)[0].keys


def test_a_first_save_makes_folder_and_file(tmp_path: Path) -> None:
    found = load({"XDG_CONFIG_HOME": str(tmp_path / "config")})
    assert not found.says

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        assert not (tmp_path / "config").exists()
        await press(pilot, "W", "y")

    app = run(script, found)
    file = tmp_path / "config/tfotrace/tfotrace.toml"
    assert parse(file.read_text())[0] == Settings(app.theme, (), (BY_TIME, True), Window.FIVE_MINUTES, {})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_text("theirs")
    (tmp_path / "tfotrace.toml").symlink_to(target)

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "W", "y")
        assert any("cannot write" in str(note.message) and note.severity == "error" for note in app._notifications)

    run(script, Found(tmp_path / "tfotrace.toml"))
    assert target.read_text() == "theirs"
    assert (tmp_path / "tfotrace.toml").is_symlink()


def test_a_link_is_read_but_not_written_through(tmp_path: Path) -> None:
    target = tmp_path / "dotfiles.toml"
    target.write_text('theme = "ansi-dark"\n')
    link = tmp_path / "tfotrace.toml"
    link.symlink_to(target)
    assert load({"XDG_CONFIG_HOME": str(tmp_path)}).settings.theme == "ansi-dark"
    with pytest.raises(OSError, match="link"):
        save(link, Settings(theme="ansi-light"))
    assert target.read_text() == 'theme = "ansi-dark"\n'


def test_a_damaged_file_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "tfotrace.toml"
    file.write_text("theme = \n")
    with pytest.raises(SettingsError):
        save(file, Settings())
    assert file.read_text() == "theme = \n"


def test_odd_files_do_not_hold_up_the_start(tmp_path: Path) -> None:
    file = tmp_path / "tfotrace.toml"
    os.mkfifo(file)
    assert "no regular file" in load({"XDG_CONFIG_HOME": str(tmp_path)}).says
    file.unlink()
    file.write_bytes(b"#" * 70_000)
    assert "longer than" in load({"XDG_CONFIG_HOME": str(tmp_path)}).says
    file.write_bytes(b"# x\n\xff\n")
    assert "line 2: this is not UTF-8" in load({"XDG_CONFIG_HOME": str(tmp_path)}).says
    file.unlink()
    file.mkdir()
    assert load({"XDG_CONFIG_HOME": str(tmp_path)}).says


ROOT_HOME = Path("/root/.config/tfotrace/tfotrace.toml")


@pytest.mark.parametrize(
    ("environment", "uid", "expected"),
    [
        ({"XDG_CONFIG_HOME": "{own}"}, 0, "{own}/tfotrace/tfotrace.toml"),
        ({"XDG_CONFIG_HOME": "{own}/new"}, 0, "{own}/new/tfotrace/tfotrace.toml"),
        ({"HOME": "{own}"}, 0, "{own}/.config/tfotrace/tfotrace.toml"),
        ({"XDG_CONFIG_HOME": "relative", "HOME": "{own}"}, 0, "{own}/.config/tfotrace/tfotrace.toml"),
        # what belongs to another account does not count: sudo and su may leave it in the environment
        ({"XDG_CONFIG_HOME": "{other}", "HOME": "{other}"}, 0, str(ROOT_HOME)),
        ({"XDG_CONFIG_HOME": "{own}", "HOME": "{own}", "SUDO_UID": "1000"}, 0, str(ROOT_HOME)),
        ({"XDG_CONFIG_HOME": "{own}", "HOME": "{other}", "SUDO_UID": "12345"}, 12345,
         "{other}/.config/tfotrace/tfotrace.toml"),
        ({}, 0, str(ROOT_HOME)),
    ],
)  # fmt: skip
def test_where_the_file_is(
    environment: Mapping[str, str], uid: int, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    other.mkdir()
    os.chown(other, 12345, 12345)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    given = {name: value.format(own=own, other=other) for name, value in environment.items()}
    assert str(settings_path(given)) == expected.format(own=own, other=other)


def test_root_uses_no_folder_that_others_can_write_to(tmp_path: Path) -> None:
    file = tmp_path / "tfotrace.toml"
    file.write_text('theme = "ansi-dark"\n')
    for uid, mode in ((0, 0o777), (12345, 0o755)):
        os.chown(tmp_path, uid, -1)
        tmp_path.chmod(mode)
        with pytest.raises(OSError, match="others than root"):
            save(file, Settings())
    os.chown(tmp_path, 0, -1)
    tmp_path.chmod(0o777)
    found = load({"XDG_CONFIG_HOME": str(tmp_path)})
    assert found.settings == Settings()
    assert "others than root" in found.says


def test_as_the_user_behind_sudo_the_file_is_that_users() -> None:
    """In a child that has become somebody else, as the dashboard has."""
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, 12345, 12345)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.setgroups([])
                os.setresgid(12345, 12345, 12345)
                os.setresuid(12345, 12345, 12345)
                path = settings_path({"HOME": folder, "SUDO_UID": "12345", "XDG_CONFIG_HOME": "/root/.config"})
                save(path, Settings(theme="ansi-dark"))
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        file = Path(folder, ".config/tfotrace/tfotrace.toml")
        assert (file.stat().st_uid, file.stat().st_gid) == (12345, 12345)
        assert parse(file.read_text())[0].theme == "ansi-dark"


def test_text_that_was_written_is_read_back() -> None:
    for theme in CYCLE:
        for sort in ((BY_TIME, False), ("time", True)):
            for window in Window:
                wanted = Settings(theme, ("rtt", "time"), sort, window, {})
                assert parse(changed("", wanted)) == (wanted, ())
