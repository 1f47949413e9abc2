"""Pictures of every screen of the real app on recorded events; they stay the same unless something changes."""

from __future__ import annotations

from pathlib import Path

from textual.pilot import Pilot

from tests.tui.driving import LARGE, SMALL, drive, press, screen_text, settle
from tests.tui.recorded import GOLDEN, Recorded
from tui.actions import MAIN, UNDER
from tui.app import Dashboard

ROOT = Path(__file__).resolve().parents[2]
SVG_FOLDER = ROOT / "docs"  # these are the README's and the manual's as well
TEXT_FOLDER = GOLDEN / "tui"
SCREENS = (*MAIN, *UNDER, "detail")


async def _go(pilot: Pilot[None], app: Dashboard, screen: str) -> None:
    if screen == "detail":
        await press(pilot, "2")
        app.handshakes.set_filter("outcome == data_acked and server.port == 443")
        await settle(pilot)
        await press(pilot, "enter")
    elif screen == "listeners":
        await press(pilot, "l")
    else:
        await press(pilot, str(MAIN.index(screen) + 1))


def _engine(screen: str) -> Recorded:
    """The recorded host has no listeners: for their screen it is both ends."""
    return Recorded(local=screen == "listeners")


def svg(screen: str) -> str:
    """A screen at 120x40."""
    found: list[str] = []

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await _go(pilot, app, screen)
        found.append(app.export_screenshot(title="tfotrace"))

    drive(script, _engine(screen), LARGE)
    return "".join(line.rstrip() + "\n" for line in found[0].splitlines())


def text(screen: str) -> str:
    """A screen at 80x24."""
    found: list[str] = []

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await _go(pilot, app, screen)
        found.append(screen_text(app))

    drive(script, _engine(screen), SMALL)
    return found[0] + "\n"


def write() -> list[Path]:
    """Make all pictures again; returns the files."""
    files = []
    SVG_FOLDER.mkdir(exist_ok=True)
    TEXT_FOLDER.mkdir(exist_ok=True)
    for screen in SCREENS:
        for path, picture in ((SVG_FOLDER / f"{screen}.svg", svg), (TEXT_FOLDER / f"{screen}-80x24.txt", text)):
            path.write_text(picture(screen))
            files.append(path)
    return files
