"""Health says what was not read, where there is any, and has room for it."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from textual.pilot import Pilot

from tests.tui.driving import LARGE, SIZES, SMALL, drive, press, screen_text, settle
from tests.tui.recorded import Recorded, recording
from tracer.records.without import Without
from tracer.store.cost import CostView, ProgramShare
from tracer.store.snapshot import InterfaceState
from tui.app import Dashboard
from tui.lines import some_of
from tui.screens.health import interface_lines
from tui.screens.overview import state_lines

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


def scrolled(size: tuple[int, int], engine: Recorded) -> str:
    """The screen, from Notices on where it is small."""
    found = list[str]()

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "5")
        if size == SMALL:
            app.screen.query_one("#health-grid").scroll_to(y=21, animate=False)
            await settle(pilot)
        found.append(screen_text(app))

    drive(script, engine, size)
    return found[0]


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


@pytest.mark.parametrize("size", SIZES)
def test_what_tracing_costs_is_shown_with_what_is_not_measured(size: tuple[int, int]) -> None:
    text = scrolled(size, Recorded())
    assert "user part 4.9 % of a CPU   root part 4.2 % of a CPU   to load, once 7.46 s" in text
    assert "kernel programs: not measured here (kernel.bpf_stats_enabled is not 1)" in text


@pytest.mark.parametrize("size", SIZES)
def test_measured_programs_are_shown_the_dearest_first(size: tuple[int, int]) -> None:
    engine = Recorded()
    programs = (
        ProgramShare("tc_egress", 0.013, 30999.0, 420.0),
        ProgramShare("tc_ingress", 0.3, 41234.0, 512.0),
        ProgramShare("sent_reset", 0.0, 0.0, None),
    )
    engine.changes["cost"] = CostView(0.5, 0.01, 2e6, programs)
    text = scrolled(size, engine)
    assert "kernel programs 31 % of a CPU, with those that they call" in text
    assert "tc_ingress 30 % (41,234/s, 0.51 µs each), tc_egress 1.3 % (30,999/s" in text
    assert "sent_reset" not in text


@pytest.mark.parametrize("size", SIZES)
def test_what_the_run_does_without_stands_among_the_notices(size: tuple[int, int]) -> None:
    engine = Recorded()
    lacking = Without("places", "it hides its addresses [/b] \x1b[31m", ("CAP_SYSLOG",))
    engine.changes["start"] = msgspec.structs.replace(recording().start, without=(lacking,))
    assert "! it hides its addresses [/b] \\x1b[31m" in scrolled(size, engine)


def test_each_kind_is_a_counter() -> None:
    lines = shown((LARGE[0], 50), **CARRIED)
    assert any("not read: VXLAN" in line and "12,034" in line for line in lines)
    assert any("not read: MPLS" in line for line in lines)


def test_of_thousands_of_interfaces_some_are_named_and_those_that_have_gone_come_first() -> None:
    states = tuple(
        InterfaceState(f"veth{number}", 100_000 + number, "clsact", "tc", (), (), present=number != 2_999)
        for number in range(3_000)
    )
    snapshot = replace(Recorded().snapshot(), interfaces=states)
    lines = ["".join(text for text, _ in line) for line in interface_lines(snapshot, 80)]
    assert lines[0] == "veth2999 (102999) clsact not traced now"
    assert lines[2] == "veth0 (100000) clsact attached"
    assert "and 2,970 more interfaces; the start record (--json) has all" in lines
    assert len(lines) < 70


@pytest.mark.parametrize("number", [1, 2, 13, 3_000])
@pytest.mark.parametrize("cells", [1, 15, 24, 60, 200])
def test_where_there_is_no_room_for_all_names_the_rest_is_counted(number: int, cells: int) -> None:
    names = [f"veth{one}" for one in range(number)]
    text = some_of(names, cells)
    assert len(text) <= cells
    shown, _, more = text.partition(" +")
    if cells >= 15:
        assert shown.split(",") == names[: number - int(more or 0)]
        assert more or len(shown.split(",")) == number
    states = tuple(InterfaceState(name, 2, "tcx", "tc", (), (), present=True) for name in names)
    snapshot = replace(Recorded().snapshot(), interfaces=states, replay_of=None)
    line = "".join(part for part, _ in state_lines(snapshot, 100)[0])
    assert line.endswith(" by tcx")
    assert line.count("veth") + int(line.partition("+")[2].partition(" ")[0] or 0) == number


def test_the_overview_marks_what_is_not_traced_now() -> None:
    states = tuple(InterfaceState(name, 2, "tcx", "tc", (), (), present=name != "eth1") for name in ("eth0", "eth1"))
    snapshot = replace(Recorded().snapshot(), interfaces=states, replay_of=None)
    assert "".join(part for part, _ in state_lines(snapshot, 100)[0]).endswith("   eth0 by tcx   eth1 by tcx (not now)")
