"""What the screens say: words for all of the vocabulary, ladders, options, numbers."""

from __future__ import annotations

import re
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from rich.cells import cell_len

from tests.tui.recorded import Recorded
from tracer.aggregate.figures import Comparison, Histogram, Quantiles
from tracer.aggregate.history import Window
from tracer.aggregate.worth import difference_words, saved_words
from tracer.dissect.options import NAMES as OPTION_NAMES
from tracer.dissect.options import TFO_EXPERIMENTAL
from tracer.records.failed_at import FailedAt
from tracer.records.record import Handshake
from tracer.records.run import Totals
from tracer.store.chunks import StoreRows
from tracer.store.snapshot import Snapshot
from tracer.vocabulary import meanings as words
from tracer.vocabulary.in_words import in_words
from tracer.vocabulary.vocabulary import After, HandshakeResult, Outcome, Request, SettleReason, word
from tracer.words.ladder import ladder_lines, steps
from tracer.words.verdicts import handshakes, sentence, worst_fate
from tui import format as numbers
from tui.explain import fact_lines, negotiated_lines, option_lines, options_of, verdict_lines
from tui.format import duration
from tui.handshake_rows import row_cells
from tui.headline import figure_lines, headline_lines
from tui.lines import Line, beside, cut, fit, width, wrap
from tui.screens.detail import counterpart, raw_options
from tui.screens.peers import BY_WIDTH
from tui.screens.statistics import (
    after_lines,
    cause_lines,
    counted_lines,
    duration_lines,
    result_lines,
    tfo_cause_lines,
)
from tui.widgets.bar import bar, column
from tui.widgets.comparison import comparison_lines
from tui.widgets.histogram import histogram_lines, quantile_line
from tui.widgets.shares import share_lines


def plain(line: Line) -> str:
    """The words of a line."""
    return "".join(text for text, _ in line)


@pytest.fixture(scope="module")
def rows() -> StoreRows:
    return Recorded().snapshot().rows


@pytest.fixture(scope="module")
def records(rows: StoreRows) -> list[Handshake]:
    """One record of each outcome and result that the lab makes."""
    found: dict[tuple[str | None, str], Handshake] = {}
    for row in range(len(rows)):
        record = rows.record(row)
        found.setdefault((record.tfo.outcome, record.handshake.result), record)
    assert len(found) > 15
    return list(found.values())


def test_every_word_of_the_vocabulary_is_explained() -> None:
    outcomes = {None if one is Outcome.UNKNOWN else word(one) for one in Outcome}
    assert set(words.VERDICTS) == set(words.EXPLANATIONS) == outcomes
    assert set(words.REQUESTS) == {word(one) for one in Request}
    assert set(words.RESULTS) == {word(one) for one in HandshakeResult}
    assert set(words.SETTLED) == {word(one).removeprefix("by_") for one in SettleReason}


@pytest.mark.parametrize("cells", [28, 54, 72])
def test_every_line_of_a_ladder_fits_and_its_times_rise(records: list[Handshake], cells: int) -> None:
    for record in records:
        lines = ladder_lines(record, cells)
        assert {width(line) for line in lines[2:]} <= {max(30, cells - 1), cells, cells - 1}
        times = [step.at_us for step in steps(record) if step.at_us is not None]
        assert times == sorted(times), record.tfo.outcome
        assert all(width(line) <= max(30, cells) for line in lines)


def _labels(records: list[Handshake], outcome: str, result: str = "established") -> list[str]:
    record = next(one for one in records if one.tfo.outcome == outcome and one.handshake.result == result)
    return [step.label for step in steps(record)]


def test_ladders_say_what_happened(records: list[Handshake]) -> None:
    accepted = _labels(records, "data_acked")
    assert re.fullmatch(r"SYN, \d+ B data, TFO cookie 8 B", accepted[0])
    assert re.fullmatch(r"SYN-ACK, acks all \d+ B", accepted[1])
    assert accepted[2:] == ["ACK", "first byte of the answer"]
    normal = _labels(records, "not_attempted")
    assert normal[:3] == ["SYN", "SYN-ACK", "ACK, now the request"]
    asked = _labels(records, "cookie_granted")
    assert asked[0] == "SYN, TFO cookie?"
    assert asked[1] == "SYN-ACK, cookie 8 B"
    refused = _labels(records, "data_not_acked_same_cookie")
    assert "the same cookie" in refused[1]
    assert refused[2] == "ACK, the data again"
    fallback = _labels(records, "syn_timeout_fallback")
    assert fallback[1].startswith("SYN again")
    assert _labels(records, "no_answer", "no_reply")[-1] == "no reply"


def test_ladder_of_each_end_that_is_not_an_answer(records: list[Handshake]) -> None:
    ends = {record.handshake.result: steps(record)[-1].label for record in records}
    both = next(record for record in records if record.handshake.result == "simultaneous_open")
    assert ends["rejected"] == "RST: refused"
    assert "unreachable" in ends["unreachable"]
    assert ends["half_open"] == "no ACK from the client"
    assert ends["aborted"] == "RST: the client gives up"
    assert any("both open at once" in step.label for step in steps(both))
    assert "already open" in ends["syn_on_established"]


def test_options_rebuilt_from_a_record_are_those_of_the_bytes(rows: StoreRows) -> None:
    compared = 0
    for row in range(0, len(rows), 7):
        record = rows.record(row)
        raw, rebuilt = raw_options(rows, row, record), options_of(record)
        if record.tfo.request == "malformed":
            continue
        # a record does not say which of the two experimental kinds it was, nor how much padding follows
        shown = [
            [(one.kind, one.name, one.text) for one in found if one.name not in ("tfo_experimental", "eol")]
            for found in (rebuilt.syn, raw.syn)
        ]
        assert shown[0] == shown[1]
        compared += 1
    assert compared > 100


@pytest.mark.parametrize("cells", [20, 40, 76, 120])
def test_words_of_the_detail_fit(records: list[Handshake], rows: StoreRows, cells: int) -> None:
    for record in records:
        options = options_of(record)
        lines = [
            *verdict_lines(record, cells), *fact_lines(record, cells), *negotiated_lines(record, cells),
            *option_lines("Options", record.syn, options.syn, cells),
        ]  # fmt: skip
        if cells >= 40:
            assert max(width(line) for line in lines) <= max(cells, 56)
        assert plain(lines[0])[0] in "✓~✗·"


def test_cause_is_said_when_it_is_known(records: list[Handshake]) -> None:
    record = records[0]
    tfo = msgspec.structs.replace(record.tfo, cause="key_not_shared", cause_confidence="likely")
    text = " ".join(plain(line) for line in verdict_lines(msgspec.structs.replace(record, tfo=tfo), 80))
    assert "Cause (likely): The servers behind this address do not share one tcp_fastopen_key" in text


def test_counterpart_is_of_the_other_kind_and_the_same_server(rows: StoreRows) -> None:
    found = 0
    for row in range(0, len(rows), 97):
        record = rows.record(row)
        other = counterpart(rows, record)
        if other is not None:
            found += 1
            assert other.server == record.server
            assert (other.tfo.request == "none") != (record.tfo.request == "none")
            assert other.handshake.result == "established"
    assert found


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"), (float("nan"), "-"), (0.0, "0"), (0.5, "0.50 µs"), (31.477, "31.5 µs"), (812.44, "812 µs"),
        (999.7, "1.00 ms"), (1500.2, "1.50 ms"), (99_960, "100 ms"), (1_009_000, "1.01 s"), (-8_047_694, "-8.05 s"),
        (600_000_000, "10.0 min"), (7_300_000_000, "2.03 h"),
    ],
)  # fmt: skip
def test_durations(value: float | None, text: str) -> None:
    assert numbers.duration(value) == text


def test_other_numbers() -> None:
    assert numbers.count(999_999) == "999,999"
    assert numbers.count(1_234_567) == "1.23 M"
    assert numbers.count(None) == "-"
    assert numbers.size(64240) == "62.7 KiB"
    assert numbers.size(5 * 1024**4) == "5.00 TiB"
    assert numbers.rate(0) == "0/s"
    assert numbers.rate(20_000) == "20,000/s"
    assert numbers.share(1, 0) == "-"
    assert numbers.share(1, 3) == "33 %"
    assert numbers.share(1, 100_000) == "<0.1 %"
    assert numbers.share(999, 1000) == "99.9 %"
    assert numbers.share(3970, 3971) == ">99.9 %"
    assert numbers.share(3971, 3971) == "100 %"
    assert numbers.clock(3725) == "1:02:05"
    assert numbers.signed_duration(5) == "+5.00 µs"
    assert numbers.signed_duration(-5) == "-5.00 µs"


def test_cutting_and_wrapping_keep_to_the_width() -> None:
    assert cut("漢字かな", 5) == "漢字…"
    assert width(fit((("漢字かな", "text"),), 5)) == 5
    assert width(fit((("ab", "text"),), 5)) == 5
    assert [plain(line) for line in wrap("one two three", 8)] == ["one two", "three"]
    assert all(width(line) <= 10 for line in wrap("x" * 95 + " 漢字かな漢字かな", 10))
    assert [plain(line) for line in beside([(("a", "text"),)], [(("b", "text"),), (("c", "text"),)], 3, 1)] == [
        "a   b", "    c"
    ]  # fmt: skip


def test_bars() -> None:
    assert plain(bar(0, 10, 8, "ok")) == " " * 8
    assert plain(bar(1e-9, 10, 8, "ok")).strip() == "▏"
    assert plain(bar(10, 10, 8, "ok")) == "█" * 8
    assert column(10, 10, 3) == ["█"] * 3
    assert column(1e-9, 10, 3) == [" ", " ", "▁"]


def _histogram(*counts: int) -> Histogram:
    return Histogram(np.arange(len(counts) + 1, dtype=np.float64), np.array(counts, np.int64))


def test_histograms_put_neighbours_together_and_lose_nothing() -> None:
    shown = _histogram(0, 1, 2, 3, 4, 0, 0)
    for rows_ in (1, 2, 3, 4, 9):
        lines = histogram_lines(shown, 60, rows_, label=lambda value: f"{value:.0f}")
        assert len(lines) <= rows_
        assert sum(int(plain(line).split()[-3]) for line in lines) == 10
    assert plain(histogram_lines(_histogram(0, 0), 60, 3)[0]) == "nothing yet"


def test_quantiles_say_as_much_as_fits() -> None:
    found = Quantiles(12345, 68_700.0, 82_500.0, None)
    assert plain(quantile_line(found, 80)) == "median 68.7 ms  p90 82.5 ms  p99 -  of 12,345"
    assert plain(quantile_line(found, 35)) == "median 68.7 ms  p90 82.5 ms  p99 -"
    assert plain(quantile_line(found, 30)) == "median 68.7 ms  p90 82.5 ms"
    assert plain(quantile_line(found, 5)) == "median 68.7 ms"


@pytest.mark.parametrize("rows_", [2, 3, 5, 8, 20])
def test_edges_of_durations_are_whole(rows_: int) -> None:
    found = Recorded().snapshot().distributions
    for histogram, quantiles in (
        (found.rtt, found.rtt_quantiles), (found.first_response, found.first_response_quantiles),
    ):  # fmt: skip
        lines = [plain(line) for line in duration_lines(histogram, quantiles, 60, rows_)]
        assert lines[0].startswith(f"median {duration(quantiles.median_us)} ")
        assert len(lines) <= max(3, rows_)
        for line in lines[1:]:
            assert re.match(r" *[125]0{0,2} (µs|ms|s) ", line), line


def test_shares_name_every_outcome_that_there_is_room_for() -> None:
    totals = Recorded().snapshot().totals
    text = "\n".join(plain(line) for line in share_lines(totals, 70, 40))
    for outcome in totals.outcomes:
        if outcome not in ("not_attempted", "cookie_only"):
            assert words.VERDICTS[outcome].removeprefix("TFO ") in text
    for rows_ in (5, 8, 11, 14):
        assert len(share_lines(totals, 40, rows_)) <= rows_
    for line in share_lines(totals, 36, 14):
        assert sum(cell_len(part) for part, _ in line) <= 36


@pytest.mark.parametrize(
    ("samples", "sooner", "words_", "style"),
    [((10, 10), (100.0, 1.02, 80.0, 120.0), "100 ± 20 µs (1.0 RTT) sooner", "ok"),
     ((10, 10), (-100.0, -0.5, -120.0, -80.0), "100 ± 20 µs (0.5 RTT) later", "degraded"),
     ((10, 10), (100.0, 1.02, -1.0, 201.0), "no difference to be seen", "dim"),
     ((10, 10), (40_400.0, None, 39_800.0, 41_000.0), "40.4 ± 0.6 ms sooner", "ok"),
     ((10, 10), (-3400.0, -123.48, -3500.0, -3300.0), "> 1 RTT later: not TFO's doing", "text"),
     ((10, 10), (3400.0, 123.48, 3300.0, 3500.0), "> 1 RTT sooner: not TFO alone", "text"),
     ((12, 3), (None,) * 4, "too few yet: 3 of 10", "dim"), ((0, 12), (None,) * 4, "no comparison yet", "dim")],
)  # fmt: skip
def test_comparisons(samples: tuple[int, int], sooner: tuple[float | None, ...], words_: str, style: str) -> None:
    entry = Comparison("10.0.0.1:443", "example.org", *samples, 100.0, 200.0, 150.0, 250.0, 90.0, *sooner)
    for cells in (120, 80, 76):
        lines = comparison_lines([entry], cells, 10)
        assert len(lines) == 2
        assert max(width(line) for line in lines) <= cells
        assert ("p90" in plain(lines[0])) == (bool(samples[0]) and cells >= 100)
        assert (f"of {samples[0]}" if samples[0] else "none seen") in plain(lines[0])
        assert f"of {samples[1]}" in plain(lines[1])
        assert words_ in plain(lines[1])
        assert lines[1][0][1] == style
    assert difference_words(entry, 80) in plain(comparison_lines([entry], 200, 10)[1])


@pytest.mark.parametrize("seen", [1257, 999_999, 410_000_000])
def test_comparisons_never_cut_a_figure(seen: int) -> None:
    entry = Comparison(
        "[2001:db8::1]:443", "example.org", 3404, seen, 99_900.0, 200.0, 150.0, 999_000.0, 90.0, *[None] * 4
    )
    for cells in (40, 60, 64, 76, 98, 120):
        lines = comparison_lines([entry], cells, 10)
        assert max(width(line) for line in lines) <= cells
        assert plain(lines[0]).rstrip().endswith("of 3,404")
        assert plain(lines[1]).rstrip().endswith(f"of {numbers.count(seen)}")


@pytest.mark.parametrize("cells", [80, 120, 168, 175, 200])
def test_a_peer_tells_what_fast_open_is_worth_only_where_it_shows(cells: int) -> None:
    peer = next(one for one in Recorded().snapshot().peers if one.role == "server")
    known = replace(peer, tfo_samples=20, normal_samples=30, saved_us=1200.0, delay_us=8_075_000.0)
    columns = {one.column.id: one for one in next(found for least, found in BY_WIDTH if cells >= least)}
    assert ("sooner" in columns) == (cells >= 169)
    if cells == 200:
        assert columns["samples"].text(known, 0)[0] == "20/30"
        assert columns["delay"].text(known, 0) == ("8.07 s", "degraded")
    if "sooner" not in columns:
        return
    column = columns["sooner"]
    assert columns["saved"].text(known, 0) == ("1.20 ms", "ok")
    keys = []
    for sooner, words_ in (
        ((40_400.0, 1.01, 39_800.0, 41_000.0), ("40.4 ms sooner", "ok")),
        ((-100.0, -0.5, -120.0, -80.0), ("100 µs later", "degraded")),
        ((40_400.0, 1.01, -1.0, 80_801.0), ("no difference", "dim")),
        ((-3400.0, -123.48, -3500.0, -3300.0), ("not by TFO", "text")),
        ((3400.0, 123.48, 3300.0, 3500.0), ("not only TFO", "text")),
    ):
        names = ("sooner_us", "sooner_rtts", "sooner_low_us", "sooner_high_us")
        one = replace(known, **dict(zip(names, sooner, strict=True)))
        assert column.text(one, 0) == words_
        assert len(words_[0]) <= column.column.width
        keys.append(column.key(one))
    # what chance or something else made stands below every benefit
    assert keys[:2] == [40_400.0, -100.0]
    assert set(keys[2:]) == {float("-inf")}


def test_the_headline_tells_what_was_saved_and_lost_apart() -> None:
    snapshot = Recorded().snapshot()
    for cells in (76, 116, 196):
        line = plain(headline_lines(snapshot, Window.ALL, cells)[-1])
        gain, loss = saved_words(snapshot.totals, cells)
        assert line.endswith(f"{gain}; {loss}")
        assert len(line) <= cells
        assert "net" not in line
    none = msgspec.structs.replace(snapshot.totals, tfo_lived=0, tfo_resent=0)
    assert plain(figure_lines(snapshot, none, 76, brief=False)[-1]).endswith("no round trip saved")


def test_the_answer_says_what_is_known() -> None:
    change = msgspec.structs.replace
    totals = Recorded().snapshot().totals
    sent = totals.tfo_with_data
    totals = change(totals, tfo_accepted=round(0.77 * sent), tfo_lived=round(0.77 * sent))
    assert sentence(totals)[0].startswith("~ Fast Open works for most: 77 %")
    assert "Waiting for traffic" in sentence(change(totals, handshakes=0))[0]
    assert "Health (5) says" in sentence(change(totals, handshakes=0), ended=True)[0]
    assert "Nobody tries" in sentence(change(totals, tfo_attempts=0))[0]
    assert sentence(change(totals, tfo_accepted=sent, tfo_lived=sent))[0].startswith("✓ Fast Open works")
    assert sentence(change(totals, tfo_accepted=0, tfo_lived=0))[0].startswith("✗ Fast Open does not work")
    assert "works for some: 14 %" in sentence(change(totals, tfo_accepted=100, tfo_lived=100))[0]
    half = change(totals, tfo_with_data=sent // 2 * 2, tfo_accepted=sent // 2, tfo_lived=sent // 2)
    assert "works for half: 50 %" in sentence(half)[0]
    bare = change(totals, tfo_with_data=0, requests={"cookie_request": 5}, outcomes={})
    assert "get none" in sentence(bare)[0]
    assert "Clients get cookies" in sentence(change(bare, outcomes={"cookie_granted": 5}))[0]
    # a SYN's data counts with a malformed option too
    malformed = change(totals, tfo_with_data=20, requests={"malformed": 20}, tfo_accepted=0, tfo_lived=0)
    assert sentence(malformed)[0] == "✗ Fast Open does not work: 0 % of 20 SYNs with data accepted."


def test_what_was_only_acked_is_no_success() -> None:
    totals = Recorded().snapshot().totals
    sent = totals.tfo_with_data
    for lived, start in ((0, "✗ Fast Open does not work: 0 %"), (sent // 5, "~ Fast Open works for some: 20 %")):
        only_acked = msgspec.structs.replace(totals, tfo_accepted=sent, tfo_lived=lived)
        text, style = sentence(only_acked)
        assert text == f"{start} of {sent} SYNs with data, 100 % acked."
        assert style == ("degraded" if lived else "failed")
    unknown = msgspec.structs.replace(totals, tfo_lived=None, after=None, died=None)
    assert sentence(unknown)[1] == "failed"


def test_connections_that_died_count_as_failed() -> None:
    totals = Recorded().snapshot().totals
    accepted = totals.outcomes["data_acked"]
    groups = {**totals.groups, "ok": totals.groups["ok"] - 200, "failed": totals.groups["failed"] + 200}
    totals = msgspec.structs.replace(totals, died={"data_acked": 200}, groups=groups)
    lines = [plain(line) for line in share_lines(totals, 70, 40)]
    failed = next(at for at, line in enumerate(lines) if line.startswith("✗"))
    assert re.fullmatch(r" +data accepted, then dead .* 200", lines[failed + 1])
    assert any(re.fullmatch(rf" +data accepted .* {accepted - 200}", line) for line in lines[:failed])


FLOODED = {
    "results": {"established": 3, "half_open": 200, "rejected": 41},
    "handshakes": 244,
    "handshake_causes": {"syn_flood": 195, "no_listener": 41, "slow_answer": 2},
    "handshake_confidences": {"syn_flood": "likely", "no_listener": "certain", "slow_answer": "likely"},
    "failed_causes": {"half_open": {"syn_flood": 195}, "rejected": {"no_listener": 41}},
    "failed_at": (FailedAt("half_open", "192.0.2.1", 80, 200), FailedAt("rejected", None, 81, 41)),
}


def flooded(**changes: object) -> Totals:
    """The lab's totals, with a flood and refused connections."""
    return msgspec.structs.replace(Recorded().snapshot().totals, **{**FLOODED, **changes})  # type: ignore[arg-type]


def shown_as(totals: Totals) -> Snapshot:
    """A snapshot of a run with these totals."""
    snapshot = Recorded().snapshot()
    return replace(snapshot, totals=totals, history=replace(snapshot.history, total=totals))


def test_the_answer_tells_of_handshakes_that_failed() -> None:
    snapshot = shown_as(flooded(tfo_attempts=0))
    lines = [plain(line) for line in headline_lines(snapshot, Window.ALL, 100)]
    assert lines[0] == "Nobody tries Fast Open: no SYN carried the option or data."
    assert lines[1] == "✗ 241 of 244 handshakes failed: 195 of them half open, a SYN flood (likely) at 192.0.2.1:80."
    assert handshakes(snapshot.history, Window.ALL, None)[1] == "failed"  # type: ignore[index]
    unknown = flooded(failed_causes=None, failed_at=None, handshake_causes=None)
    assert worst_fate(unknown) == ("half open", 200)
    none = shown_as(flooded(results={"established": 244}, failed_causes={}))
    assert handshakes(none.history, Window.ALL, None) == ("✓ No handshake failed, of 244.", "ok")
    results = {"established": 240, "rejected": 4}
    few = shown_as(flooded(results=results, failed_causes={"rejected": {"no_listener": 4}}))
    assert handshakes(few.history, Window.ALL, None) == (
        "~ 4 of 244 handshakes failed: refused, nobody listens at port 81.", "degraded",
    )  # fmt: skip


def test_shares_tell_of_handshakes_that_failed_and_were_slow() -> None:
    for rows_ in range(4, 20):
        lines = share_lines(flooded(), 60, rows_)
        assert len(lines) <= max(rows_, 4)
        text = [plain(line) for line in lines]
        headings = [line for line in text if line.startswith("✗ handshakes that failed")]
        assert len(headings) == 1, "never left out"
        assert headings[0].split()[-3:] == ["241", "99", "%"]
    text_ = "\n".join(text)
    for words_, seen in (
        ("half open: a SYN flood", 195), ("refused: nobody listens", 41), ("half open", 5), ("slow answer", 2),
    ):  # fmt: skip
        assert re.search(rf"^    {words_} .* {seen}$", text_, re.MULTILINE), words_
    assert "~ established, but slow or not served" in text_
    alone = [plain(line) for line in share_lines(flooded(groups={"n/a": 244}, tfo_attempts=0), 60, 4)]
    assert alone[0].startswith("no TFO attempt yet")
    assert alone[1].startswith("✗ handshakes that failed")
    assert "a SYN flood" in alone[2] or "slow" in alone[2]
    assert len(alone) == 4
    calm = "\n".join(plain(line) for line in share_lines(flooded(results={"established": 1}, failed_causes=None,
                                                                 handshake_causes=None), 60, 12))  # fmt: skip
    assert "handshakes" not in calm


@pytest.mark.parametrize("cells", [30, 36, 70])
def test_the_statistics_have_results_and_causes(cells: int) -> None:
    totals = flooded(causes={"key_not_shared": 7})
    results = result_lines(totals, cells)
    assert [plain(line)[:4] for line in results] == ["half", "refu", "esta"]
    assert [any(style == "failed" for _, style in line) for line in results] == [True, True, False]
    causes = [plain(line) for line in cause_lines(totals, cells)]
    assert [line.split()[-1] for line in causes] == ["195", "41", "2"]
    assert causes[0].startswith("a SYN flood (likely)")
    assert plain(tfo_cause_lines(totals, cells)[0]).split() == ["key", "not", "shared", "7"]
    totals = flooded(causes={"key_not_shared": 7}, cause_confidences={"key_not_shared": "likely"})
    assert plain(tfo_cause_lines(totals, cells)[0]).startswith("key not shared (likely)" if cells > 30 else "key not")
    assert max(map(cell_len, causes)) <= cells
    assert plain(cause_lines(flooded(handshake_causes=None), cells)[0]) == "no cause is known"
    calm = flooded(results={"established": 1}, groups={"ok": 1}, handshake_causes=None, causes={})
    assert plain(cause_lines(calm, cells)[0]) == plain(tfo_cause_lines(calm, cells)[0]) == "nothing yet"


@pytest.mark.parametrize("cells", [80, 119, 120, 150, 173, 200])
def test_peers_tell_failed_handshakes_and_their_cause(cells: int) -> None:
    peer = next(one for one in Recorded().snapshot().peers if one.last_outcome == "not_attempted")
    refused = replace(peer, handshakes_failed=41, cause="no_listener", last_result="rejected", last_cause="no_listener")
    columns = next(found for least, found in BY_WIDTH if cells >= least)
    shown = {one.column.id: one.text(refused, 0) for one in columns}
    assert shown["handshakes_failed"] == ("41", "failed")
    assert shown["outcome"] == ("✗ nobody listens", "failed")
    assert shown.get("cause", ("nobody listens", "failed")) == ("nobody listens", "failed")
    assert ("cause" in shown) == (cells >= 120)
    last = columns[-1].text
    assert last(replace(refused, last_cause=None), 0) == ("✗ refused", "failed")
    assert last(replace(refused, last_result="established", last_cause="slow_answer"), 0) == (
        "~ slow answer", "degraded",
    )  # fmt: skip
    assert last(replace(peer, last_result="rejected", last_outcome="rejected", last_group="failed"), 0) == (
        "✗ rejected", "failed",
    )  # fmt: skip
    calm = {one.column.id: one.text(peer, 0) for one in columns}
    assert calm["outcome"] == ("· not attempted", "none")
    assert calm["handshakes_failed"][1] == "dim"


def test_a_row_of_a_handshake_that_failed_is_never_grey(records: list[Handshake]) -> None:
    record = next(one for one in records if one.tfo.outcome == "not_attempted")
    for result, cause, cell_ in (
        ("rejected", "no_listener", ("✗ refused: nobody listens", "failed")),
        ("rejected", None, ("✗ refused", "failed")),
        ("established", "slow_answer", ("~ slow answer", "degraded")),
        ("established", None, ("· established", "none")),
    ):
        timing = msgspec.structs.replace(record.handshake, result=result, cause=cause)
        changed = msgspec.structs.replace(record, handshake=timing)
        assert row_cells(changed, ["outcome"]) == [cell_]
    (why,) = row_cells(msgspec.structs.replace(record, handshake=msgspec.structs.replace(
        record.handshake, result="no_reply", cause="no_route_back")), ["handshake_cause"])  # fmt: skip
    assert why == ("no route back", "failed")


def test_the_statistics_tell_how_connections_went_on() -> None:
    totals = Recorded().snapshot().totals
    after = {word(one): 1 + one for one in After if one}
    lines = [plain(line) for line in after_lines(msgspec.structs.replace(totals, after=after), 36)]
    assert len(lines) == len(after)
    assert lines[0].startswith("silence")
    assert lines[-1].startswith("closed unused"), "no failure: it stands apart"
    assert max(map(cell_len, lines)) <= 36
    assert plain(after_lines(msgspec.structs.replace(totals, after=None), 36)[0]) == "nothing yet"


@pytest.mark.parametrize("cells", [80, 115, 132, 150, 173])
def test_peers_tell_what_lived_apart_from_what_was_acked(cells: int) -> None:
    peer = next(one for one in Recorded().snapshot().peers if one.with_data == one.lived > 1)
    peer = replace(peer, lived=0, last_outcome="data_acked", last_group="failed")
    columns = next(found for least, found in BY_WIDTH if cells >= least)
    shown = {one.column.id: one.text(peer, 0) for one in columns}
    assert shown["lived"] == ("0 %", "failed")
    assert shown.get("accepted", ("100 %", "ok")) == ("100 %", "ok")
    assert shown["outcome"] == ("✗ data acked, died", "failed")
    room = cells - sum(one.column.width + 1 for one in columns[:-1])  # the last column takes the rest
    assert room >= len("✗ data not acked same cookie")


def test_a_row_says_when_the_connection_died_after_a_good_outcome(records: list[Handshake]) -> None:
    usual = {(one.tfo.outcome, one.tfo.group): one for one in records}
    replace = msgspec.structs.replace
    for outcome, group, result, sign, ends in (
        ("data_acked", "ok", "established", "✓", "data acked"),
        ("data_acked", "failed", "established", "✗", "data acked, died"),
        ("cookie_granted", "failed", "established", "✗", "cookie granted, died"),
        ("no_answer", "failed", "no_reply", "✗", "no reply"),
    ):
        record = next(one for (name, _), one in usual.items() if name == outcome)
        timing, tfo = replace(record.handshake, result=result), replace(record.tfo, group=group)
        record = replace(record, handshake=timing, tfo=tfo)
        assert row_cells(record, ["outcome", "group"]) == [(f"{sign} {ends}", group), (f"{sign} {group}", group)]


@pytest.mark.parametrize("cells", [38, 78, 118])
def test_the_answer_fits_and_is_whole(cells: int) -> None:
    place = FailedAt("half_open", "2001:db8:1234:5678:9abc:def0:1234:5678", 65535, 200)
    for brief in (False, True):
        lines = headline_lines(shown_as(flooded(failed_at=(place,))), Window.ALL, cells, brief=brief)
        assert max(width(line) for line in lines) <= cells
        told = "".join(plain(line).strip() for line in lines)
        assert "[2001:db8:1234:5678:9abc:def0:1234:5678]:65535" in told
        assert "…" not in told


@pytest.mark.parametrize("cells", [36, 37, 40, 64])
def test_statistics_cut_no_word_of_a_vocabulary(cells: int) -> None:
    names = [*OPTION_NAMES.values(), TFO_EXPERIMENTAL, *(in_words(word(one)) for one in HandshakeResult)]
    for name in names:
        (line,) = counted_lines([(name, 999_999)], 999_999, cells)
        assert plain(line).startswith(f"{name} ")
        assert width(line) == cells
