"""Times for people: local, with daylight saving time, or UTC."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from tests.support.lines import handshakes
from tests.support.zones import BERLIN, KATHMANDU, NEW_YORK, zone
from tracer.filters.filter import parse
from tracer.filters.times import NS_PER_S, local_ns
from tracer.store.list_columns import COLUMNS
from tracer.vocabulary import local_time
from tracer.vocabulary.local_time import clock, day, local

WINTER, SUMMER = "2026-11-30T06:10:15.701900123Z", "2026-07-01T22:30:00.000000001Z"


@pytest.mark.parametrize(
    ("name", "ts", "says", "offset"),
    [
        ("UTC0", WINTER, "2026-11-30T06:10:15.701900123", "UTC"),
        (BERLIN, WINTER, "2026-11-30T07:10:15.701900123", "UTC+01:00"),
        (BERLIN, SUMMER, "2026-07-02T00:30:00.000000001", "UTC+02:00"),
        (NEW_YORK, WINTER, "2026-11-30T01:10:15.701900123", "UTC-05:00"),
        (KATHMANDU, WINTER, "2026-11-30T11:55:15.701900123", "UTC+05:45"),
        # an hour that comes twice
        (BERLIN, "2026-10-25T00:59:59.0Z", "2026-10-25T02:59:59.0", "UTC+02:00"),
        (BERLIN, "2026-10-25T01:00:00.0Z", "2026-10-25T02:00:00.0", "UTC+01:00"),
        # records of no time that there is
        (BERLIN, "", "", "UTC"),
        (BERLIN, "0000-99-99T99:99:99Z", "0000-99-99T99:99:99", "UTC"),
    ],
)
def test_a_time_of_a_record_where_people_live(name: str, ts: str, says: str, offset: str) -> None:
    with zone(name):
        assert (local(ts), local_time.zone(ts)) == (says, offset)
        assert day(ts) == says[:10]
        assert clock(ts, 0) == says[11:19]


def test_utc_instead() -> None:
    with zone(BERLIN):
        assert clock(WINTER) == "07:10:15.701"
        local_time.use_utc()
        assert (clock(WINTER), local_time.zone(WINTER)) == ("06:10:15.701", "UTC")


def test_many_times_are_as_one() -> None:
    hours = np.arange(0, 366 * 24, dtype=np.int64) * 3600 * NS_PER_S + 1_767_225_600 * NS_PER_S
    for name in (BERLIN, NEW_YORK, KATHMANDU):
        with zone(name):
            found = local_ns(hours)
            assert found.tolist() == [local_ns(one) for one in hours.tolist()]
            assert len(np.unique(found - hours)) == (1 if name == KATHMANDU else 2)
    assert len(local_ns(hours[:0])) == 0


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("time == 07:10", True), ("time == 06:10", False), ("time == 06:10Z", True), ("time > 07:10:15.7Z", False),
        ("time == 2026-11-30T07:10", True), ("ts == 2026-11-30T06:10Z", True), ("time ~ 07:10:15", True),
        ("time ~ 06:10:15", False), ("ts ~ 06:10:15", True), ("time < 2026-11-30", False),
    ],
)  # fmt: skip
def test_filters_compare_with_what_lists_show(text: str, matches: bool) -> None:
    with zone(BERLIN):
        record = msgspec.structs.replace(handshakes()[0], ts=WINTER)
        assert COLUMNS["time"].text(record) == "07:10:15.701"
        assert parse(text).matches(record) is matches
        late = msgspec.structs.replace(record, ts="2026-11-29T23:30:00.0Z")
        assert parse("time == 2026-11-30").matches(late)
        assert parse("time == 2026-11-29Z").matches(late)
