"""The dashboard: pulls a snapshot four times a second and shows it on the top screen. Nothing is pushed to it."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual import events
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import BindingType
from textual.screen import Screen
from textual.theme import Theme

from tracer.aggregate.figures import Peer
from tracer.aggregate.history import Window
from tracer.store.snapshot import Snapshot
from tui.actions import MAIN, actions_of
from tui.engine import Engine
from tui.lines import safe
from tui.paint import StyleBook
from tui.rebinding import rebound
from tui.screens.base import TracerScreen
from tui.screens.overview import Overview
from tui.settings import Settings, SettingsError
from tui.settings_file import Found, load, save, settings_path
from tui.terminal import StdoutDriver
from tui.themes import OWN, first_theme, next_theme

if TYPE_CHECKING:
    from tui.screens.handshakes import Handshakes

PULL_S = 0.25
WINDOW_WORDS = {
    Window.MINUTE: "figures of the last minute", Window.FIVE_MINUTES: "figures of the last 5 minutes",
    Window.HOUR: "figures of the last hour", Window.ALL: "figures of all handshakes",
}  # fmt: skip
COLLECT_AFTER = (5000, 4, 4)  # gc.set_threshold(): a repaint leaves cycles behind, and whole snapshots may hang on them


class Dashboard(App[None]):
    """Five screens over one engine."""

    CSS_PATH = "tfotrace.tcss"
    TITLE = "tfotrace"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(
        self,
        engine: Engine,
        *,
        leave_when_ended: bool = False,
        pull_s: float = PULL_S,
        filter_text: str = "",
        settings: Found | None = None,
    ) -> None:
        """Begin with these settings; None: as without any."""
        super().__init__(driver_class=StdoutDriver)
        self.engine = engine
        self.book = StyleBook()
        self.latest: Snapshot = engine.snapshot()
        self.frozen: Snapshot | None = None
        self._found = Found(settings_path()) if settings is None else settings
        wanted = self._found.settings
        self.actions = rebound(wanted.keys)
        # of a file everything is summed up at first, and not only what happened of late
        self.window = Window.ALL if self.latest.replay_of is not None else wanted.window or Window.FIVE_MINUTES
        self._walking = False
        self.failure: Exception | None = None
        self._leave_when_ended = leave_when_ended
        self._pull_s = pull_s
        self._filter_text = filter_text
        self.screens_by_name: dict[str, TracerScreen] = {}
        for theme in OWN:
            self.register_theme(theme)
        self.theme = wanted.theme or first_theme(self.console.color_system, os.environ)

    # the snapshot

    @property
    def shown(self) -> Snapshot:
        """The snapshot on the screen: the latest, or the one the view was frozen on."""
        return self.frozen if self.frozen is not None else self.latest

    @property
    def new(self) -> int:
        """How many handshakes came since the view was frozen."""
        if self.frozen is None:
            return 0
        return max(0, self.latest.totals.handshakes - self.frozen.totals.handshakes)

    def compose(self) -> ComposeResult:
        """The bottommost screen shows nothing but holds the styles."""
        yield self.book

    def on_mount(self) -> None:
        """Make the screens and start to pull."""
        self.theme_changed_signal.subscribe(self, self._theme_changed)
        keys = self._found.settings.keys
        self.set_keymap({one.id: ",".join(one.keys) for one in self.actions if one.id in keys})
        self._screen_named("overview")
        self.push_screen("overview")
        if self._found.says:
            self.say(self._found.says, error=True, seconds=20)
        self.call_after_refresh(self._prepare, [name for name in MAIN if name != "overview"])
        if self._pull_s > 0:
            self.set_interval(self._pull_s, self.pull)

    def _prepare(self, names: list[str]) -> None:
        """Make the other screens in advance, once the first one is there: each takes a tenth of a second."""
        if names:
            self._screen_named(names[0])
            self._get_screen(names[0])
            self.call_after_refresh(self._prepare, names[1:])
        else:
            collect_seldom()

    def _screen_named(self, name: str) -> TracerScreen:
        """One of the five screens, or of those under them: made, and its code imported, when it is first asked for."""
        screen = self.screens_by_name.get(name)
        if screen is None:
            screen = self.screens_by_name[name] = self._made(name)
            self.install_screen(screen, name)
        return screen

    def _made(self, name: str) -> TracerScreen:
        if name == "overview":
            return Overview()
        if name == "handshakes":
            from tui.screens.handshakes import Handshakes

            screen = Handshakes(self._filter_text)
            settings = self._found.settings
            screen.chosen = settings.columns or ()
            if settings.sort is not None:
                screen.sort, screen.descending = settings.sort
            return screen
        if name == "peers":
            from tui.screens.peers import Peers

            return Peers()
        if name == "statistics":
            from tui.screens.statistics import Statistics

            return Statistics()
        if name == "listeners":
            from tui.screens.listeners import Listeners

            return Listeners()
        from tui.screens.health import Health

        return Health()

    def pull(self) -> None:
        """Take a snapshot and show it, unless the terminal has gone: then leave."""
        if isinstance(self._driver, StdoutDriver):
            if self._driver.is_gone:
                self.exit()
                return
            if self._driver.is_behind:
                return
        self.latest = self.engine.snapshot()
        top = self.screen
        self._look_at_the_size(top)
        if isinstance(top, TracerScreen):
            self.show_on(top)
        if self._leave_when_ended and self.latest.ended is not None:
            self.exit()

    def _look_at_the_size(self, top: Screen[object]) -> None:
        """Follow the terminal's size even if the signal of the last change got lost."""
        if isinstance(self._driver, StdoutDriver):
            size = self._driver.terminal_size
            if size != top.size:
                self.post_message(events.Resize(size, size))

    def show_on(self, screen: TracerScreen) -> None:
        """Show the current snapshot on a screen."""
        screen.show(self.shown, self.frozen is not None, self.new)

    def _theme_changed(self, _: Theme) -> None:
        self.book.forget()
        for screen in self.screen_stack:
            for widget in screen.walk_children():
                widget.refresh()

    # going places

    @property
    def current(self) -> TracerScreen:
        """The screen that keys act on: the topmost one that is not a dialog."""
        for screen in reversed(self.screen_stack):
            if isinstance(screen, TracerScreen):
                return screen
        return self._screen_named("overview")

    def action_show(self, name: str) -> None:
        """Show one of these screens and close what lies over it."""
        while len(self.screen_stack) > 2:
            self.pop_screen()
        target, left = self._screen_named(name), self.screen
        if left is not target:
            self.switch_screen(name)
            if isinstance(left, TracerScreen):
                left.leave()

    def action_filter_handshakes(self) -> None:
        """Show the handshakes with the filter open."""
        self.action_show("handshakes")
        self.call_after_refresh(self.handshakes.action_filter)

    @property
    def handshakes(self) -> Handshakes:
        """The screen with the list of handshakes."""
        return cast("Handshakes", self._screen_named("handshakes"))

    def show_handshakes_of(self, expression: str, peer: Peer | None = None) -> None:
        """Show the handshakes that a filter finds; esc on them comes back to the current screen."""
        caller = self.current.NAME
        self.action_show("handshakes")
        self.call_after_refresh(self.handshakes.come_from, caller, expression, peer)

    def open_detail(self, rows_position: int) -> None:
        """Open the detail of the handshake at a position of the list."""
        from tui.screens.detail import Detail

        self.push_screen(Detail(self.handshakes, rows_position))

    # actions of every screen

    def action_pause(self) -> None:
        """Freeze the view on its snapshot, or resume it."""
        self.frozen = self.latest if self.frozen is None else None
        self.show_on(self.current)

    def action_next_window(self) -> None:
        """Sum up the last minute, 5 minutes, hour, or all."""
        windows = list(Window)
        self.window = windows[(windows.index(self.window) + 1) % len(windows)]
        self.show_on(self.current)
        self.say(WINDOW_WORDS[self.window])

    def action_walk(self, steps: int) -> None:
        """Freeze the view on an earlier moment, or go on to a later one: by a sixtieth of the window, or of all."""
        if not self._walking:
            self._walking = True
            self.run_worker(self._walk(steps), group="walk", exit_on_error=True)

    async def _walk(self, steps: int) -> None:
        from tracer.store.past import past, range_ns

        try:
            latest = self.latest
            found = await asyncio.to_thread(range_ns, latest)
            if found is None:
                self.say("no handshake is held yet", error=True)
                return
            first, last = found
            seconds = self.window.seconds
            step_ns = max(1, seconds * 1_000_000_000 // 60 if seconds is not None else (last - first) // 60)
            target = max(first, self.shown.taken_ns + steps * step_ns)
            self.frozen = await asyncio.to_thread(past, latest, target) if target < latest.taken_ns else None
        finally:
            self._walking = False
        self.show_on(self.current)

    def action_clear(self) -> None:
        """Ask, then forget everything."""

        def answered(yes: bool | None) -> None:
            if yes:
                self.engine.clear()
                self.frozen = None
                self.pull()

        question = "Forget all handshakes and totals and count from now on? Collection goes on."
        self._ask(question, "Clear", answered)

    def _ask(self, question: str, yes: str, answered: Callable[[bool | None], None]) -> None:
        from tui.widgets.question import Question

        self.push_screen(Question(question, yes), answered)

    def action_next_theme(self) -> None:
        """Switch to dark, light, 16 colours on dark, or 16 on light."""
        self.theme = next_theme(self.theme)
        self.say(f"theme: {self.theme}")

    def action_save_settings(self) -> None:
        """Ask, then write what is chosen to the user's file."""
        path = self._found.path

        def answered(yes: bool | None) -> None:
            if yes:
                self._save_settings(path)

        question = f"Write theme, columns, order and window to {safe(str(path))}? What else it has stays as it is."
        self._ask(question, "Write", answered)

    def _save_settings(self, path: Path) -> None:
        listed = self.handshakes
        window = self.window if self.latest.replay_of is None else None  # a replay's begins with all
        now = Settings(self.theme, listed.chosen, (listed.sort, listed.descending), window)
        try:
            save(path, now)
        except (OSError, SettingsError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            self.say(f"cannot write {path}: {why}", error=True)
        else:
            self.say(f"theme, columns, order and window are in {path}")

    def action_help(self) -> None:
        """Explain the current screen."""
        from tui.screens.help import Help

        typing = self.focused is not None and self.focused.id == "filter-input"
        self.push_screen(Help(self.current.NAME, self.actions, filters_first=typing))

    def say(self, text: str, error: bool = False, seconds: float = 4) -> None:
        """Show a short message over the screen; never markup."""
        self.notify(safe(text), markup=False, severity="error" if error else "information", timeout=seconds)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Fill the palette with the actions of this screen only."""
        current = screen if isinstance(screen, TracerScreen) else self.current

        for one in actions_of(current.NAME, self.actions):
            if one.palette:
                yield SystemCommand(one.title, f"{one.help} ({one.shown})", lambda run=one.run: self._run(current, run))

    async def _run(self, screen: TracerScreen, action: str) -> None:
        await screen.run_action(action)

    # going away

    def _handle_exception(self, error: Exception) -> None:
        """Restore the terminal first; run() raises the error afterwards."""
        if self.failure is None:
            self.failure = error
        self._return_code = 1
        if self._exception is None:
            self._exception = error
            self._exception_event.set()
        self._close_messages_no_wait()


def collect_seldom() -> None:
    """Exempt all present objects from garbage collection: a full one walks every object while all threads wait."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    gc.enable()


def run(engine: Engine, *, leave_when_ended: bool = False, filter_text: str = "") -> int:
    """Show the dashboard until the user leaves it; returns 0. The list of handshakes starts with this filter.

    SIGINT, SIGTERM, SIGHUP and the terminal's end do so too. `engine.stop()` is called once the terminal is restored.

    Raises:
        Exception: any error of the dashboard, after the terminal is restored.
    """
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)  # if a shell exports them, they would hide every later change of size
    gc.disable()  # nearly all that a start makes stays: collect_seldom() goes through it when all screens are made
    app = Dashboard(engine, leave_when_ended=leave_when_ended, filter_text=filter_text, settings=load())

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, app.exit)
        await app.run_async()

    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
    finally:
        gc.enable()
        engine.stop()
    if app.failure is not None:
        raise app.failure
    return 0


__all__ = ["MAIN", "Dashboard", "run"]
