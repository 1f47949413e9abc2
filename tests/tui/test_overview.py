"""The overview: what it answers first, why and what to do, and that nothing that matters is ever cut."""

from __future__ import annotations

import re
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from textual.pilot import Pilot

from tests.support.day import BEGIN_S, NS_PER_S, attempts, plain
from tests.tui.driving import LARGE, SMALL, drive, press, screen_text, until
from tests.tui.recorded import Recorded, recording
from tests.unit.aggregate.test_breaks import view
from tracer.aggregate.figures import Histogram
from tracer.aggregate.history import History, HistoryView, Steps, Window
from tracer.handshake.batch import Batch
from tracer.store.snapshot import HostState, Snapshot
from tracer.vocabulary.causes import CAUSES, HANDSHAKE_CAUSES, remedy
from tracer.vocabulary.vocabulary import Cause, Confidence, Group, HandshakeCause, HandshakeResult, Outcome
from tui.actions import MAIN
from tui.alerts import alerts
from tui.app import Dashboard
from tui.headline import headline_lines
from tui.lines import Line, width
from tui.screens.overview import Overview, planned
from tui.themes import CYCLE
from tui.why import arranged, why_entries
from tui.widgets.panel import Panel

HUGE = (200, 60)
ALL_SIZES = (SMALL, LARGE, HUGE)
LONG_IP = bytes.fromhex("20010db8123456789abcdef012345678")


def words(lines: list[Line]) -> list[str]:
    return ["".join(text for text, _ in line).rstrip() for line in lines]


def snapshot_of(history: HistoryView) -> Snapshot:
    taken = Recorded(share=0).snapshot()
    return replace(taken, history=history, totals=history.total, taken_ns=history.now_ns)


def headline(history: History, second: float, window: Window = Window.FIVE_MINUTES) -> list[str]:
    return words(headline_lines(snapshot_of(view(history, second)), window, 160))


def test_a_break_comes_first_and_is_forgotten_in_time() -> None:
    history = History()
    history.add(attempts(list(range(300)), failed=False))
    assert headline(history, 299.5)[0] == "✓ Fast Open works: 100 % of 300 SYNs with data accepted."
    history.add(attempts(list(range(300, 312)), failed=True))
    assert headline(history, 311.5)[0] == (
        "✗ Fast Open broke 11 s ago: 0 of the last 12 SYNs with data worked; before 100 % of 300.  in all: 96 % of 312"
    )
    history.add(attempts(list(range(312, 600)), failed=True))
    assert headline(history, 599.5)[0].startswith("✗ Fast Open broke 4:59 min ago: 0 of the last 300 SYNs")
    history.add(attempts(list(range(600, 800)), failed=False))
    assert re.match(  # its begin is known to 15 seconds by now
        r"✓ Fast Open works again: 100 % of 200 SYNs with data; it failed for [45]:\d\d min until 3:19 min ago\.",
        headline(history, 799.5)[0],
    )
    history.add(attempts(list(range(800, 1000)), failed=False))
    assert headline(history, 999.5)[0] == (
        "✓ Fast Open works: 100 % of 300 SYNs with data accepted.  in all: 70 % of 1,000"
    )
    assert "it failed for" in headline(history, 999.5, Window.HOUR)[0]
    assert headline(history, 5000)[0].startswith("No handshake within the last 5 min.  in all: 70 % of 1,000")


def test_handshakes_that_fail_are_told_as_loud_with_cause_and_place() -> None:
    history = History()
    history.add(plain(list(range(300)) * 2, overflowed=False))
    assert headline(history, 299.5)[1] == "✓ No handshake failed, of 600."
    history.add(plain(list(range(300, 320)), overflowed=True))
    line = headline_lines(snapshot_of(view(history, 319.5)), Window.FIVE_MINUTES, 160)[1]
    assert words([line])[0].startswith(
        "✗ Handshakes began to fail 19 s ago: 20 of the last 20, before 0 % of 600; most are half open, accept queue "
        "full at 192.0.2.7:443."
    )
    assert {style for _, style in line} == {"verdict-failed"}
    history.add(plain(list(range(320, 420)), overflowed=False))
    assert headline(history, 419.5)[1] == (
        "~ 20 of 480 handshakes failed: half open, accept queue full at 192.0.2.7:443. "
        "For 20 s until 1:39 min ago 20 of 20 failed."
    )
    assert headline(history, 700.5)[1] == "✓ No handshake failed, of 19."


def test_a_place_of_most_is_not_told_as_that_of_all() -> None:
    history = History()
    history.add(plain([10] * 40, overflowed=True))
    elsewhere = plain([10] * 30, overflowed=True)
    elsewhere.events["server_port"] = 444
    history.add(elsewhere)
    shown = snapshot_of(view(history, 20))
    assert headline(history, 20)[1] == (
        "✗ 70 of 70 handshakes failed: half open, accept queue full, mostly at 192.0.2.7:443."
    )
    (entry, *_) = why_entries(shown, Window.FIVE_MINUTES, 100)
    assert words(entry.head) == ["✗      70  half open: accept queue full, mostly at 192.0.2.7:443"]
    history.add(plain([10] * 160, overflowed=True))
    elsewhere = plain(list(range(280, 290)) * 10, overflowed=True)
    elsewhere.events["server_port"] = 444
    history.add(elsewhere)
    (entry, *_) = why_entries(snapshot_of(view(history, 290)), Window.FIVE_MINUTES, 100)
    assert words(entry.head)[0].startswith("✗     330  half open: accept queue full, now at 192.0.2.7:444  ")
    assert words(entry.head)[0].endswith("▲ rising")


def test_a_cause_is_told_with_its_own_number() -> None:
    history = History()
    history.add(plain([10] * 40, overflowed=True))
    other = plain([10] * 3, overflowed=True)
    other.causes.handshake_cause[:] = HandshakeCause.ACK_MISSING
    history.add(other)
    assert headline(history, 20)[1] == (
        "✗ 43 of 43 handshakes failed: 40 of them half open, accept queue full at 192.0.2.7:443."
    )


def test_of_few_the_number_is_told_and_no_share() -> None:
    history = History()
    history.add(attempts([10], failed=True))
    assert headline(history, 20)[0] == "✗ Fast Open does not work: none of 1 SYN with data accepted."
    history.add(attempts([10] * 8, failed=False))
    assert headline(history, 20)[0] == "~ Fast Open works for most: 8 of 9 SYNs with data accepted."
    history.add(attempts([10], failed=False))
    assert headline(history, 20)[0] == "~ Fast Open works for most: 90 % of 10 SYNs with data accepted."
    died = attempts([400], failed=False)
    died.verdicts.lived[:] = False
    history.add(died)
    assert headline(history, 400)[0] == (
        "✗ Fast Open does not work: none of 1 SYN with data, 1 acked.  in all: 82 % of 11"
    )


def test_the_plots_tell_causes_of_handshakes_and_of_fast_open_apart() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        overview = app.current
        assert isinstance(overview, Overview)
        told_lines = words(list(overview.time.lines))
        assert any(re.match(r" *packet loss +40", line) for line in told_lines), told_lines
        assert any(re.match(r" *TFO: packet loss +30", line) for line in told_lines), told_lines

    history = History()
    lost = plain([10] * 40, overflowed=True)
    lost.causes.handshake_cause[:] = HandshakeCause.PACKET_LOSS
    history.add(lost)
    slow = attempts([10] * 30, failed=True)
    slow.causes.cause[:] = Cause.PACKET_LOSS
    history.add(slow)
    engine = Recorded(share=0)
    found = view(history, 20)
    engine.changes = {"history": found, "totals": found.total, "taken_ns": found.now_ns}
    for size in ALL_SIZES:
        drive(script, engine, size)


def test_a_cause_that_is_not_certain_is_not_told_as_a_fact() -> None:
    history = History()
    history.add(plain(list(range(300)) * 2, overflowed=False))
    lost = plain(list(range(300, 320)), overflowed=True)
    lost.events["result"] = HandshakeResult.NO_REPLY
    lost.causes.handshake_cause[:] = HandshakeCause.PACKET_LOSS
    lost.causes.handshake_confidence[:] = Confidence.POSSIBLE
    history.add(lost)
    shown = snapshot_of(view(history, 319.5))
    told_words = "packet loss (possible) at 192.0.2.7:443"
    assert headline(history, 319.5)[1].endswith(f"most are no reply, {told_words}.")
    assert words(why_entries(shown, Window.FIVE_MINUTES, 100)[0].head)[0].startswith(
        f"✗      20  no reply: {told_words}"
    )
    (alert,) = alerts(shown)
    assert alert.endswith(f": {told_words}")
    history = History()
    history.add(plain([10], overflowed=True))
    assert "(" not in headline(history, 20)[1]


def test_every_cause_says_what_to_do() -> None:
    for sentence in (*CAUSES.values(), *HANDSHAKE_CAUSES.values()):
        assert sentence.endswith(remedy(sentence))
        assert len(remedy(sentence)) > 20
        assert ": " in sentence


def many_reasons() -> History:
    history = History()
    history.add(plain([10] * 40, overflowed=True))
    history.add(attempts([10] * 30, failed=True))
    for number, cause in enumerate((HandshakeCause.NO_LISTENER, HandshakeCause.REFUSED, HandshakeCause.NONE)):
        made = plain([10] * (20 - number), overflowed=True)
        made.events["result"] = HandshakeResult.REJECTED
        made.causes.handshake_cause[:] = cause
        history.add(made)
    return history


def test_where_room_is_scarce_remedies_go_first_but_that_of_the_selected_reason() -> None:
    entries = why_entries(snapshot_of(view(many_reasons(), 20)), Window.FIVE_MINUTES, 78)
    assert len(entries) == 5
    whole, ways = arranged(entries, 100, None)
    assert len(whole) == len(ways) == sum(one.height for one in entries)
    for rows in (5, 8):
        for selected in (one.way for one in entries):
            lines, ways = arranged(entries, rows, selected)
            assert {way for way in ways if way is not None} == {one.way for one in entries}
            chosen = next(one for one in entries if one.way == selected)
            assert [line for line, way in zip(lines, ways, strict=True) if way == selected] == [
                *chosen.head, *chosen.remedy,
            ]  # fmt: skip
            top = entries[0]
            assert lines[: top.height] == [*top.head, *top.remedy]
    assert words(whole)[0] == "✗      40  half open: accept queue full at 192.0.2.7:443"
    assert words(whole)[1].strip().startswith("Let the program accept sooner")


def test_enter_on_a_reason_leads_to_its_handshakes() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        overview = app.current
        assert isinstance(overview, Overview)
        assert overview.why.has_focus
        entries = why_entries(app.latest, app.window, 100)
        for one in entries:
            assert overview.why.way == one.way
            number = int(words(one.head)[0].split()[1])
            await press(pilot, "enter")
            assert app.handshakes.filter_text == one.way
            await until(pilot, lambda wanted=number: len(app.handshakes.source) == wanted, "they are listed")  # type: ignore[misc]
            await press(pilot, "escape")
            assert app.current is overview
            await press(pilot, "down")

    drive(script, size=LARGE)


@pytest.mark.parametrize("day_s", [0, 86_400 - 50])
def test_enter_on_a_reason_leads_to_those_of_the_window_only(day_s: int) -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        overview = app.current
        assert isinstance(overview, Overview)
        for window, wanted in ((Window.MINUTE, 60), (Window.FIVE_MINUTES, 100)):
            app.window = window
            app.show_on(overview)
            await pilot.pause()
            assert words(list(overview.why.lines))[0].startswith(f"✗ {wanted:>7}  half open: accept queue full")
            await press(pilot, "enter")
            await until(pilot, lambda wanted=wanted: len(app.handshakes.source) == wanted, "they are listed")  # type: ignore[misc]
            way, _, time = app.handshakes.filter_text.partition(" and time >= ")
            assert way == overview.why.way
            # the day is told only if there is more than one of them
            assert re.fullmatch("" if wanted == 100 else r"[\dT:-]{19}" if day_s else r"[\d:]{8}", time)
            await press(pilot, "escape")

    engine = Recorded(share=0)
    offset_ns = recording().start.boot_clock_offset_ns
    midnight_ns = (engine.now_ns + offset_ns) // (86_400 * NS_PER_S) * (86_400 * NS_PER_S) - offset_ns
    begin_ns = engine.now_ns = midnight_ns + (day_s + 86_400) * NS_PER_S
    engine.store.clear()
    made = plain(list(range(100)), overflowed=True)
    made.events["settled_ns"] = begin_ns + np.arange(100) * NS_PER_S + NS_PER_S // 2
    made.events["syn_ns"] = made.events["settled_ns"] - np.uint64(1_000_000)
    engine.store.write(made)
    engine.now_ns = begin_ns + 99 * NS_PER_S + NS_PER_S * 3 // 4
    drive(script, engine, LARGE)


def test_a_click_selects_a_reason_and_shows_what_to_do() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        overview = app.current
        assert isinstance(overview, Overview)
        lines = screen_text(app).splitlines()
        row = next(at for at, line in enumerate(lines) if "unreachable at port 8443" in line)
        assert "A router on the way" not in screen_text(app)
        await pilot.click(offset=(20, row))
        await pilot.pause()
        assert overview.why.way == "result == unreachable and why == null"
        assert "A router on the way, or the host itself, cannot" in screen_text(app)

    drive(script, size=SMALL)


@pytest.mark.parametrize("rows", range(3, 80, 5))
@pytest.mark.parametrize("cells", [40, 80, 120, 200])
def test_the_parts_fit_by_rank(cells: int, rows: int) -> None:
    for answer in (2, 4, 7):
        for why in (1, 8, 40):
            plan = planned(cells, rows, answer, why)
            gaps = plan.gap * 5
            assert plan.answer == min(rows, answer + 1)
            parts = (plan.why, plan.time, plan.row, plan.compare, plan.state)
            assert min(parts) >= 0
            assert plan.answer + sum(parts) + gaps == rows
            assert plan.why >= min(why + 1, 5) or rows < 11 + answer
            assert not plan.compare or plan.row >= 6


def empty_host(tcp_fastopen: str | None) -> Recorded:
    engine = Recorded(share=0)
    host = HostState({}, {}, {"tcp_fastopen": tcp_fastopen}) if tcp_fastopen is not None else None
    engine.changes = {"host": host}
    return engine


@pytest.mark.parametrize("size", ALL_SIZES)
@pytest.mark.parametrize(
    ("value", "says"),
    [("1", "Fast Open is off for servers"), ("0", "Fast Open is off for clients"), ("3", "Programs must ask for it")],
)
def test_where_nothing_happens_yet_it_says_what_doctor_knows(size: tuple[int, int], value: str, says: str) -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        text = screen_text(app)
        assert "No handshake has settled yet. Waiting for traffic." in text
        assert says in text
        assert ("sysctl -w net.ipv4.tcp_fastopen=3" in text) == (value != "3")
        assert "tfotrace doctor" in text

    drive(script, empty_host(value), size)


def test_where_nothing_is_known_of_the_host_it_says_nothing_of_it() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        assert "doctor" not in screen_text(app)

    drive(script, empty_host(None))


def many_of(found: Histogram) -> Histogram:
    """The greatest counts that are written out, and a single one beside them."""
    counts = np.where(found.counts > 0, 999_999, 0)
    counts[int(np.flatnonzero(counts)[0])] = 1
    return replace(found, counts=counts)


def hostile(*, both_break: bool = False) -> Recorded:
    """Long addresses, causes with long names, and numbers as long as they get; handshakes may break as well."""
    history = History()
    parts: list[Batch] = [attempts(list(range(290)), failed=False)]
    if both_break:
        parts += [plain(list(range(290)), overflowed=False), plain(list(range(290, 300)) * 40, overflowed=True)]
    for cause in (
        ()
        if both_break
        else (HandshakeCause.NO_ANSWER_BEYOND, HandshakeCause.NAT_ONE_WAY, HandshakeCause.RESET_AFTER_ESTABLISHED)
    ):
        made = plain(list(range(300)), overflowed=True)
        made.causes.handshake_cause[:] = cause
        parts.append(made)
    made = attempts(list(range(290, 300)) * 40, failed=True)
    made.verdicts.outcome[:] = Outcome.DATA_NOT_ACKED_NEW_COOKIE
    made.verdicts.group[:] = Group.DEGRADED
    made.causes.cause[:] = 0
    parts.append(made)
    for part in parts:
        part.events["server"][:] = np.frombuffer(LONG_IP, np.uint8)
        part.events["server_port"] = 65535
        history.add(part)
    engine = Recorded()
    found = view(history, 299.5)
    times = 999_999

    def many(steps: Steps) -> Steps:
        places = tuple({place: seen * times for place, seen in one.items()} for one in steps.places)
        return replace(steps, cells=steps.cells * times, places=places)

    found = replace(
        found, fine=many(found.fine), coarse=many(found.coarse), total_cells=found.total_cells * times
    )  # fmt: skip
    total = found.totals_of_last(300)
    found = replace(found, total=msgspec.structs.replace(total, failed_at=found.total.failed_at))
    taken = engine.snapshot()
    ip = "2001:db8:1234:5678:9abc:def0:1234:5678"
    engine.changes = {
        "history": found, "totals": found.total, "handshakes_per_s": 99_999.0, "attempts_per_s": 99_999.0,
        "taken_ns": (BEGIN_S + 300) * NS_PER_S,
        "peers": tuple(replace(one, ip=ip) for one in taken.peers),
        "comparisons": tuple(
            replace(one, server=f"[{ip}]:65535", name="", tfo_samples=3404, normal_samples=seen)
            for one, seen in zip(taken.comparisons, [1257, 999_999, 410_000_000] * 20, strict=False)
        ),
        "distributions": replace(
            taken.distributions,
            names=(("a.example", 3970), ("b.example", 1)),
            rtt=many_of(taken.distributions.rtt), first_response=many_of(taken.distributions.first_response),
            window=many_of(taken.distributions.window),
        ),
        "interfaces": tuple(replace(one, name="a-very-long-one") for one in taken.interfaces),
    }  # fmt: skip
    return engine


@pytest.mark.parametrize("both_break", [False, True])
@pytest.mark.parametrize("size", ALL_SIZES)
def test_no_verdict_and_no_figure_is_ever_cut(size: tuple[int, int], both_break: bool) -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        overview = app.current
        assert isinstance(overview, Overview)
        for window in Window:
            app.window = window
            for number, name in enumerate(MAIN, start=1):
                await press(pilot, str(number))
                text = screen_text(app)
                for panel in app.screen.query(Panel):
                    if panel.display and panel.room[0]:
                        assert all(width(line) <= panel.room[0] for line in panel.lines), f"{panel.id}:\n{text}"
                banner = text.splitlines()[1 : 1 + app.current.banner.size.height]
                assert len(banner) == (2 if both_break and size != HUGE else 1)
                told = " ".join(banner)
                assert re.search(r"Fast Open has been failing for 9 s: 400 M of 400 M\b", told)
                assert re.search(r"Handshakes have been failing for 9 s: 400 M of 800 M\b", told) or not both_break
                assert "…" not in told
                # a number that ends in "…", but not an address, a time or a name
                assert not re.search(r"(?<![\w:.\[-])[\d.,]+ ?…|(?<!\w)[\d.,]+ (?:[kMG]|ms|µs|%)?…", text), (
                    f"{name}:\n{text}"
                )
            await press(pilot, "1")
            for panel in (overview.answer, overview.why, overview.time):
                told_lines = words(list(panel.lines))
                assert all(width(line) <= panel.room[0] for line in panel.lines)
                assert "…" not in "".join(told_lines)
            assert len(overview.answer.lines) <= overview.answer.room[1], "no line of it is out of sight"
            joined = re.sub(r"\s+", "", "".join(words(list(overview.answer.lines))))
            assert "[2001:db8:1234:5678:9abc:def0:1234:5678]:65535" in joined
            assert re.search(r"✗Fast Open|✗FastOpen", joined)
            await press(pilot, "w")

    drive(script, hostile(both_break=both_break), size)


@pytest.mark.parametrize("theme", CYCLE)
@pytest.mark.parametrize("size", ALL_SIZES)
def test_the_verdict_is_the_boldest_in_every_theme(theme: str, size: tuple[int, int]) -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        overview = app.current
        assert isinstance(overview, Overview)
        for y in (0, 1):
            segments = [one for one in overview.answer.render_line(y) if one.text.strip()]
            assert segments
            assert all(one.style is not None and one.style.bold for one in segments), segments
        below = [one for one in overview.answer.render_line(2) if one.text.strip()]
        assert not any(one.style is not None and one.style.bold for one in below)
        plots = [one for y in range(5) for one in overview.time.render_line(y)]
        assert not any(one.style is not None and one.style.bold for one in plots)

    drive(script, size=size, theme=theme)


def test_the_windows_and_the_moment_are_in_the_titles() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        assert " Last 5 min" in screen_text(app)
        for name in ("Last 1 h", "All", "Last 1 min"):
            await press(pilot, "w")
            text = screen_text(app)
            assert f" {name}\n" in text
            assert f"Why, and what to do, {name.lower()}" in text
        await press(pilot, "4")
        assert "Results of handshakes, last 1 min" in screen_text(app)
        await press(pilot, "1")
        app.frozen = replace(app.latest, moment="12:34:56 UTC")
        app.show_on(app.current)
        await pilot.pause()
        assert "Last 1 min until 12:34:56 UTC" in screen_text(app)

    drive(script)


def test_each_reason_has_words_and_a_filter() -> None:
    snapshot = Recorded().snapshot()
    entries = why_entries(snapshot, Window.ALL, 100)
    assert len({one.way for one in entries}) == len(entries)
    assert all(one.remedy for one in entries)
    assert all("_" not in words(one.head)[0] for one in entries)
