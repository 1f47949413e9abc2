"""A panel paints again the lines that differ, and no others."""

from __future__ import annotations

import pytest
from textual.pilot import Pilot

from tests.tui.driving import drive, screen_text, settle
from tui.app import Dashboard
from tui.lines import Line
from tui.screens.overview import Overview
from tui.widgets.panel import Panel


def _lines(*texts: str) -> list[Line]:
    return [((text, "text"),) for text in texts]


def test_only_lines_that_differ_are_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    painted: list[tuple[str | None, int]] = []
    paint = Panel.render_line

    def noted(self: Panel, y: int) -> object:
        painted.append((self.id, y))
        return paint(self, y)

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        screen = app.screen
        assert isinstance(screen, Overview)
        screen.answer.put(_lines("one", "two", "three", "four"))
        await settle(pilot)
        monkeypatch.setattr(Panel, "render_line", noted)
        screen.answer.put(_lines("one", "two", "three", "four"))
        await settle(pilot)
        assert painted == []
        screen.answer.put(_lines("one", "second", "three", "four"))
        await settle(pilot)
        assert painted == [("answer", 1)]
        shown = screen_text(app).split()
        assert "second" in shown
        assert "two" not in shown
        screen.answer.put(_lines("one", "second"))
        await settle(pilot)
        shown = screen_text(app).split()
        assert "second" in shown
        assert "three" not in shown

    drive(script)
