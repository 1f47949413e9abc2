"""A replay says so on every screen, with the file's name, and never that tracing has ended."""

from __future__ import annotations

import pytest
from rich.cells import cell_len
from textual.pilot import Pilot

from tests.tui.driving import LARGE, SMALL, drive, press, screen_text, settle
from tests.tui.recorded import Recorded
from tui.actions import MAIN
from tui.app import Dashboard
from tui.lines import cut_middle

LONG = "capture-of-the-load-balancer-2026-11-23-with-a-very-long-name.pcapng"
sizes = pytest.mark.parametrize("size", [SMALL, LARGE, (200, 60)], ids=lambda size: f"{size[0]}x{size[1]}")


@sizes
@pytest.mark.parametrize("file", ["case.pcap", LONG])
@pytest.mark.parametrize("name", [*MAIN, "detail"])
def test_the_first_line_has_the_file_and_the_end(name: str, file: str, size: tuple[int, int]) -> None:
    engine = Recorded()
    engine.changes = {"replay_of": file}

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, *(("2", "enter") if name == "detail" else (str(MAIN.index(name) + 1),)))
        first = screen_text(app).splitlines()[0]
        assert f"replay {'cap' if file == LONG else 'case.pcap'}" in first
        assert "pcap" in first
        assert "ended" not in first
        engine.changes = {"replay_of": file, "ended": f"all of {file} was read"}
        app.pull()
        await settle(pilot)
        text = screen_text(app)
        first = text.splitlines()[0]
        assert "end of the file" in first or (size == SMALL and "end of file" in first)
        assert f"replay {'cap' if file == LONG else 'case.pcap'}" in first
        assert "racing has ended" not in text
        assert "!" not in text.splitlines()[1][:3], "there is nothing to warn of"

    drive(script, engine, size)


def test_an_early_end_of_a_replay_is_said_in_the_banner() -> None:
    engine = Recorded()
    engine.changes = {"replay_of": "case.pcap", "ended": "case.pcap cannot be read any further", "ended_early": True}

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        lines = screen_text(app).splitlines()
        assert "Ended early: case.pcap cannot be read any further." in lines[1]
        assert "end of the file" not in lines[0]
        assert "racing has ended" not in "".join(lines)

    drive(script, engine, LARGE)


@pytest.mark.parametrize("cells", range(1, 24))
def test_a_name_cut_in_the_middle_fits_and_keeps_both_ends(cells: int) -> None:
    for name in (LONG, "a.pcap", "漢字かな漢字かな漢字かな.pcap"):
        cut = cut_middle(name, cells)
        assert cell_len(cut) <= cells
        if cells >= 14 and cut != name:
            assert cut.endswith("pcapng" if name is LONG else ".pcap")
            assert cut[0] == name[0]
