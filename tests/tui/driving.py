"""Drives the real app without a terminal."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Awaitable, Callable
from typing import Any

from rich.console import Console
from textual.pilot import Pilot

from tests.tui.recorded import Recorded
from tui.app import Dashboard

Script = Callable[[Pilot[None], Dashboard], Awaitable[None]]
SMALL, LARGE = (80, 24), (120, 40)
SIZES = (SMALL, LARGE)
THEME = "tfotrace-dark"
DEADLINE_S = 30.0


async def settle(pilot: Pilot[None]) -> None:
    """Wait until messages and workers have been worked off."""
    for _ in range(2):
        await pilot.pause()
        await pilot.app.workers.wait_for_complete()
    await pilot.pause()


async def until(pilot: Pilot[None], holds: Callable[[], bool], what: str) -> None:
    """Pull until something holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, f"timed out waiting until {what}"
        app = pilot.app
        assert isinstance(app, Dashboard)
        app.pull()
        await asyncio.sleep(0.02)
        await settle(pilot)


def drive(
    script: Script, engine: Recorded | None = None, size: tuple[int, int] = SMALL, theme: str = THEME
) -> Dashboard:
    """Run a script against the app; nothing pulls but the script. Raises what the app raised."""

    async def main() -> Dashboard:
        app = Dashboard(engine if engine is not None else Recorded(), pull_s=0)
        app.theme = theme
        app.animation_level = "none"
        async with app.run_test(size=size) as pilot:
            await settle(pilot)
            await script(pilot, app)
        return app

    return asyncio.run(main())


async def press(pilot: Pilot[None], *keys: str) -> None:
    """Press keys, each when the one before has done its work."""
    for key in keys:
        await pilot.press(key)
        await settle(pilot)


def _render(app: Dashboard) -> Console:
    width, height = app.size
    console = Console(
        width=width, height=height, file=io.StringIO(), force_terminal=True, color_system="truecolor", record=True,
        legacy_windows=False,
    )  # fmt: skip
    picture: Any = app.screen._compositor.render_update(full=True, screen_stack=app._background_screens)
    console.print(picture)
    return console


def screen_text(app: Dashboard) -> str:
    """The screen as plain text, one line per row, without trailing blanks."""
    lines = _render(app).export_text(styles=False).splitlines()
    return "\n".join(line.rstrip() for line in lines)


def segments(app: Dashboard) -> list[str]:
    """Every text that would go to the terminal."""
    found: list[str] = []
    for widget in app.screen.walk_children():
        if widget.size.area and not widget.is_container:
            for y in range(widget.size.height):
                found += [segment.text for segment in widget.render_line(y) if not segment.control]
    return found
