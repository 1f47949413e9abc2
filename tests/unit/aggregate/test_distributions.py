"""Distributions against counts computed record by record."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.rows import new_store, random_batch, records_of
from tracer.aggregate.buckets import BUCKETS, EDGES, bucket_counts
from tracer.aggregate.distributions import DURATIONS_KEPT, LAYOUTS_HELD, NEW_LAYOUTS, Recent, _Durations, _Layouts
from tracer.aggregate.figures import Distributions, Histogram, Quantiles
from tracer.records.record import Handshake
from tracer.store.chunks import StoreRows


def snapshot_of(seed: int, count: int = 3000) -> tuple[list[Handshake], Distributions]:
    store = new_store()
    store.write(random_batch(seed, count))
    shown = store.snapshot()
    assert isinstance(shown.rows, StoreRows)
    return records_of(shown.rows), shown.distributions


def counted(histogram: Histogram, values: list[float]) -> list[int]:
    inner = np.clip(np.array(values, np.float64), histogram.edges[0], np.nextafter(histogram.edges[-1], 0))
    found: list[int] = np.histogram(inner, histogram.edges)[0].tolist()
    return found


def test_histograms() -> None:
    records, shown = snapshot_of(1)
    rtts = [(r.handshake.rtt_us, r) for r in records if r.handshake.rtt_us is not None]
    attempted = [rtt for rtt, r in rtts if r.tfo.kind is not None or r.syn.payload_len]
    responses = [r.handshake.first_response_us for r in records if r.handshake.first_response_us is not None]
    for histogram, values in (
        (shown.rtt, [rtt for rtt, _ in rtts]),
        (shown.rtt_tfo, attempted),
        (shown.first_response, responses),
        (shown.window, [r.syn.window for r in records]),
    ):
        assert len(histogram.edges) == len(histogram.counts) + 1
        assert histogram.counts.tolist() == counted(histogram, values)
        assert histogram.counts.sum() == len(values) > 0


def test_counters() -> None:
    records, shown = snapshot_of(2)
    for found, values in (
        (shown.mss, [r.syn.mss for r in records]),
        (shown.wscale, [r.syn.wscale for r in records]),
        (shown.options, [name for r in records for name in set(r.syn.options) - {"nop", "eol"}]),
        (shown.names, [n for r in records if (n := (r.tls and r.tls.sni) or (r.http and r.http.host))]),
    ):
        expected = Counter(values)
        assert dict(found) == {value: expected[value] for value, _ in found}
        counts = [count for _, count in found]
        assert counts == sorted(counts, reverse=True)
        assert counts == sorted(expected.values(), reverse=True)[: len(counts)]
        assert len(counts) == min(50, len(expected))


@given(st.lists(st.floats(0.001, 1e10), min_size=1, max_size=50))
def test_a_duration_is_in_the_bucket_between_its_edges(values: list[float]) -> None:
    inner = np.clip(np.array(values), EDGES[0], np.nextafter(EDGES[-1], 0))
    assert bucket_counts(np.array(values)).tolist() == np.histogram(inner, EDGES)[0].tolist()


def test_edges_are_those_that_people_read() -> None:
    assert EDGES[:7].tolist() == [1, 2, 5, 10, 20, 50, 100]
    assert EDGES[-1] == 1e9
    assert len(EDGES) == BUCKETS + 1 == 28


def test_quantiles_are_exact() -> None:
    records, shown = snapshot_of(3)
    rtts = [r.handshake.rtt_us for r in records if r.handshake.rtt_us is not None]
    attempted = [
        r.handshake.rtt_us
        for r in records
        if r.handshake.rtt_us is not None and (r.tfo.kind is not None or r.syn.payload_len)
    ]
    responses = [r.handshake.first_response_us for r in records if r.handshake.first_response_us is not None]
    for found, values in (
        (shown.rtt_quantiles, rtts), (shown.rtt_tfo_quantiles, attempted), (shown.first_response_quantiles, responses),
    ):  # fmt: skip
        assert found.samples == len(values) > 100
        for value, share in ((found.median_us, 0.5), (found.p90_us, 0.9), (found.p99_us, 0.99)):
            assert value == pytest.approx(np.quantile(values, share), rel=1e-6)


def test_without_durations_there_are_no_quantiles() -> None:
    assert _Durations().quantiles == Quantiles(0, None, None, None)


def test_beyond_the_sample_quantiles_are_near_those_of_all() -> None:
    rng, durations = np.random.default_rng(1), _Durations()
    values = rng.lognormal(8, 1, 20 * DURATIONS_KEPT)
    for part in np.split(values, 40):
        durations.add(part)
    found = durations.quantiles
    assert found.samples == len(values)
    for value, share in ((found.median_us, 0.5), (found.p90_us, 0.9), (found.p99_us, 0.99)):
        assert value is not None
        # the share that lies below it; three standard errors
        error = 3 * (share * (1 - share) / DURATIONS_KEPT) ** 0.5
        assert abs(float((values < value).mean()) - share) < error
    assert int(durations.histogram.counts.sum()) == len(values)


def test_of_too_many_names_the_oldest_are_forgotten() -> None:
    recent = Recent(100)
    for number in range(1000):
        recent.add([(f"stranger {number}", 1), ("regular", 1)])
        assert len(recent) <= 100
    assert recent.top(1) == (("regular", 1000),)
    assert len(recent) > 100 // 2


def test_options_are_counted_on_when_layouts_are_too_many() -> None:
    events = random_batch(1, LAYOUTS_HELD + 500, odd=False, payloads=False).events
    syn = events["syn"]
    # kind 200, six bytes of anything: every layout is another one
    syn["options"][:, 0], syn["options"][:, 1] = 200, 8
    syn["options"][:, 2:8] = np.random.default_rng(1).integers(0, 256, (len(events), 6))
    syn["options_len"], syn["ts_offset"], syn["tfo_offset"], syn["cookie_len"] = 8, 255, 255, 0
    layouts = _Layouts(LAYOUTS_HELD)
    for _ in range(2):
        for at in range(0, len(syn), NEW_LAYOUTS):
            layouts.add(syn[at : at + NEW_LAYOUTS])
    assert layouts.top() == (("kind_200", 2 * len(events)),)
    fresh = _Layouts(LAYOUTS_HELD)
    fresh.add(syn)
    assert fresh.top() == (("kind_200", NEW_LAYOUTS),)
