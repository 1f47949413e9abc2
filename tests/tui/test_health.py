"""Health says what was not read, where there is any, and has room for it."""

from __future__ import annotations

import pytest
from textual.pilot import Pilot

from tests.tui.driving import LARGE, SIZES, SMALL, drive, press, screen_text
from tests.tui.recorded import Recorded, recording
from tui.app import Dashboard

CARRIED = {"not_read_vxlan": 12034, "not_read_mpls": 40, "not_read_gre": 0}


def shown(size: tuple[int, int], **counters: int) -> list[str]:
    """The screen's lines, with such counters beside those of the recording."""
    engine, found = Recorded(), list[str]()
    engine.changes["counters"] = {**recording().counters, **counters}

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "5")
        found.append(screen_text(app))

    drive(script, engine, size)
    return found[0].splitlines()


@pytest.mark.parametrize("size", SIZES)
def test_frames_that_were_not_read_have_a_row_in_the_balance_sheet(size: tuple[int, int]) -> None:
    lines = shown(size, **CARRIED)
    (row,) = (line for line in lines if "not read " in line and "frames inside" in line)
    assert "not read        12,074  frames inside VXLAN, MPLS" in row
    assert any("balances: every handshake that was read is accounted for" in line for line in lines)
    # nothing is pushed out of the panel
    assert any("table " in line and " of 65,536" in line for line in lines)


@pytest.mark.parametrize("size", SIZES)
def test_without_any_there_is_no_row(size: tuple[int, int]) -> None:
    usual = shown(size)
    assert not [line for line in usual if "frames inside" in line]
    if size == SMALL:
        assert usual == shown(size, not_read_vxlan=0)


def test_each_kind_is_a_counter() -> None:
    lines = shown((LARGE[0], 50), **CARRIED)
    assert any("not read: VXLAN" in line and "12,034" in line for line in lines)
    assert any("not read: MPLS" in line for line in lines)
