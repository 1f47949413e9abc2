"""Marks of axes, times in words, and what is left of pygal's drawings."""

from __future__ import annotations

from datetime import timedelta, timezone
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from tests.support.rows import random_batch
from tests.support.zones import NEW_YORK, zone
from tracer.aggregate.series import Series
from tracer.report.plots import BINS, _decades, _ticks, plots
from tracer.report.times import MARKS, At, Span

NS_PER_S = 1_000_000_000
BEGAN_S = 1_772_400_000  # 2026-03-01 21:20 UTC
INDIA = timezone(timedelta(hours=5, minutes=30))


def span_of(seconds: int, zone: timezone = timezone.utc) -> Span:
    return Span(BEGAN_S * NS_PER_S, (BEGAN_S + seconds) * NS_PER_S, zone)


@pytest.mark.parametrize("size_s", [1, 4, 16, 64, 512, 4096, 1 << 17])
@pytest.mark.parametrize("zone", [timezone.utc, INDIA], ids=["UTC", "India"])
def test_marks_are_few_and_at_round_times(size_s: int, zone: timezone) -> None:
    marks = span_of(size_s * BINS, zone).marks(BEGAN_S, size_s, BINS)
    assert 2 <= len(marks) <= MARKS + 1
    assert all(0 <= at < BINS for at in marks)
    distances = np.diff(sorted(marks))
    assert distances.max() - distances.min() <= 1  # evenly, to a bin
    assert not any(text.endswith((":07", ":13", ":47")) for text in marks.values())
    if size_s == 512 and zone is timezone.utc:
        assert "03-02" in marks.values()  # midnight is told by the new day


def test_the_zone_is_told_and_days_where_there_are_several() -> None:
    assert span_of(60).whole() == "2026-03-01 21:20:00 to 21:21:00 UTC"
    assert span_of(86_400, INDIA).whole() == "2026-03-02 02:50:00 to 2026-03-03 02:50:00 UTC+05:30"
    with zone(NEW_YORK):
        begun_s = 1_793_512_799  # 2026-11-01 05:59:59 UTC, a second before the clocks are put back
        night = Span(begun_s * NS_PER_S, (begun_s + 3) * NS_PER_S)
        assert night.whole() == "2026-11-01 01:59:59 UTC-04:00 to 01:00:02 UTC-05:00"
    assert At(span_of(60)).at(10) == "at 21:20:50"
    assert At(span_of(86_400)).until(10) == "until 2026-03-02 21:19:50"
    assert span_of(1).moment("2026-03-01T21:20:00.123456789Z") == "2026-03-01 21:20:00.123 UTC"
    assert span_of(1).moment("no time") == "no time"


@pytest.mark.parametrize("most", [1, 3, 4, 5, 14, 85, 100, 999, 15_000, 1_234_567, 0.0])
def test_ticks(most: float) -> None:
    ticks = _ticks(most)
    assert ticks[0] == 0
    assert ticks[-1] >= most
    assert 2 <= len(ticks) <= 6
    assert np.diff(ticks) == pytest.approx(ticks[1])


@pytest.mark.parametrize(("least", "most"), [(47, 47), (1, 1), (100, 100), (13, 1e6), (0.5, 3), (900, 1100), (1, 1e9)])
def test_marks_of_durations_hold_them(least: float, most: float) -> None:
    marks = _decades(least, most)
    assert marks[0] <= least <= most <= marks[-1]
    assert marks == sorted(set(marks))
    assert 2 <= len(marks) <= 11


def drawn(seconds: np.ndarray) -> str:
    batch = random_batch(1, len(seconds))
    batch.events["syn_ns"] = ((BEGAN_S + seconds) * NS_PER_S).astype(np.uint64)
    series = Series()
    series.add(batch, 0)
    return "".join(ET.tostring(one, encoding="unicode") for one in plots(series.view(), span_of(int(seconds.max()))))


def test_nothing_of_pygal_that_runs_or_is_fetched_is_left() -> None:
    text = drawn(np.arange(0, 900, 3))
    assert text.count("<svg ") == 4
    for word in ("script", "style", "http", "href", "tooltip", "<desc", "<defs", "pygal.js", "ns0:"):
        assert word not in text, word
    assert text.count("<svg ") == text.count('role="img"') == text.count("aria-label=")


def test_lonely_moments_are_dots() -> None:
    """A line needs two moments side by side: of quiet hosts nothing would be drawn."""
    sparse = drawn(np.arange(0, 3000, 100))
    assert "tooltip" not in sparse
    for title in ("SYNs with data that worked", "Connect time"):
        figure = next(one for one in sparse.split("<figure>") if title in one)
        assert figure.count('class="dot"') >= 10, title
    assert "<circle" not in drawn(np.repeat(np.arange(300), 9))


def test_few_handshakes_are_more_than_none_on_average() -> None:
    assert "Handshakes every 1 s. 0 to 1, 0.033 on average." in drawn(np.array([0.5, 59.5]))


def test_no_plots_of_a_moment() -> None:
    assert drawn(np.zeros(50)) == ""
    assert drawn(np.array([0, 1, 2, 1, 0])) != ""
