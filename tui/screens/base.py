"""The common part of the five screens and the detail: tab bar, banner, body, footer, and showing a snapshot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, cast

from textual.app import ComposeResult
from textual.screen import Screen
from textual.widget import Widget

from tracer.records.record import Handshake
from tracer.store.snapshot import Snapshot
from tui.actions import bindings_of
from tui.moments import within
from tui.shell import Shell
from tui.widgets.banner import Banner
from tui.widgets.footer_bar import FooterBar
from tui.widgets.tab_bar import TabBar
from tui.widgets.way_panel import WayPanel


class TracerScreen(Screen[None]):
    """One screen. Subclasses define `NAME`, `body` and `update`."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - Textual's type
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (16, "-low"), (34, "-high"), (60, "-tall")]  # noqa: RUF012
    AUTO_FOCUS = "RowList, Panel"
    NAME: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        """The keys of a screen are those that the list of actions has for its name."""
        cls.BINDINGS = [*bindings_of(cls.NAME)]
        super().__init_subclass__()

    def __init__(self) -> None:
        super().__init__()
        self.tabs = TabBar(self.NAME)
        self.banner = Banner()
        self.footer = FooterBar(self.NAME)
        self.snapshot: Snapshot | None = None

    @property
    def shell(self) -> Shell:
        """The app."""
        return cast("Shell", self.app)

    def body(self) -> Iterable[Widget]:
        """The widgets between banner and footer."""
        return ()

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""

    def compose(self) -> ComposeResult:
        """The widgets from top to bottom."""
        yield self.tabs
        yield self.banner
        yield from self.body()
        yield self.footer

    def show(self, snapshot: Snapshot, paused: bool, new: int) -> None:
        """Show a snapshot; the app calls this for the top screen."""
        self.snapshot = snapshot
        self.tabs.put(snapshot, paused, new)
        self.banner.put(snapshot)
        self.update(snapshot)

    def leave(self) -> None:
        """Another screen replaces this one: release what was drawn and the snapshot, which keeps all its rows."""
        self.snapshot = None
        for widget in self.walk_children(with_self=True):
            widget.refresh()

    def on_mount(self) -> None:
        """Paint for the first time."""
        self._again()

    def on_screen_resume(self) -> None:
        """Shown again: the content and the theme may be old."""
        for widget in self.walk_children():
            widget.refresh()
        self._again()

    def on_resize(self) -> None:
        """Make the lines again for the new width."""
        self.call_after_refresh(self._again)

    def _again(self) -> None:
        if self.is_mounted and self.app.screen is self:
            self.show(self.shell.shown, self.shell.frozen is not None, self.shell.new)

    def on_tab_bar_chosen(self, event: TabBar.Chosen) -> None:
        """A title was clicked."""
        event.stop()
        self.shell.action_show(event.name)

    def action_follow_way(self) -> None:
        """Show the handshakes that the selected line of a panel stands for, of the window."""
        focused, snapshot = self.focused, self.snapshot
        if isinstance(focused, WayPanel) and focused.way is not None and snapshot is not None:
            self.shell.show_handshakes_of(within(focused.way, self.shell.window, snapshot))

    # what both the list and the detail do with a handshake

    def copy_ladder(self, record: Handshake) -> None:
        """Copy a handshake's ladder as text."""
        from tui.export import ladder_text

        self.app.copy_to_clipboard(ladder_text(record))
        self.shell.say(f"copied the ladder of handshake {record.id} as text")

    def export_ladder(self, record: Handshake) -> None:
        """Write a handshake's ladder to a text file in the current folder."""
        self.run_worker(self._export_ladder(record), group="export", exit_on_error=True)

    async def _export_ladder(self, record: Handshake) -> None:
        from tui.export import export_path, write_ladder

        path = export_path(Path.cwd(), time.localtime(), ".txt")
        try:
            await asyncio.to_thread(write_ladder, path, record)
        except OSError as error:
            self.shell.say(f"cannot write {path}: {error.strerror}", error=True)
            return
        self.shell.say(f"the ladder of handshake {record.id} is in {path.name}")
