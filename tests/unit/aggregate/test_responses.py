"""The sample behind the benefit, and the benefit, against sums computed record by record."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from tests.support.rows import INTERFACES, batch_of, random_events
from tracer.aggregate.aggregate import Aggregate
from tracer.aggregate.benefit import RECORDED, TOLD, BenefitTable, tell
from tracer.aggregate.keyindex import Indexes
from tracer.aggregate.responses import ENOUGH, KEPT, NORMAL, RTT, TFO, Responses
from tracer.aggregate.worth import difference
from tracer.encode.composer import Composer
from tracer.handshake.batch import Batch
from tracer.handshake.events import F64
from tracer.records.run import Benefit
from tracer.vocabulary.vocabulary import DIFFERENCE_WORDS

ACCEPTED = ("data_acked", "data_acked_new_cookie")


def slots(*numbers: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    return np.array(numbers, np.intp)


def add_each(responses: Responses, kind: int, rows: Indexes, durations_us: F64) -> None:
    responses._kept.add(rows + kind * responses._rows, durations_us)


def test_up_to_the_limit_every_duration_is_kept() -> None:
    rng = np.random.default_rng(1)
    durations = rng.lognormal(8, 1, (3, KEPT))
    responses = Responses(4)
    for begin in range(0, KEPT, 7):
        part = durations[:, begin : begin + 7]
        where = np.repeat(slots(3, 0, 2), part.shape[1])
        order = rng.permutation(part.size)
        add_each(responses, TFO, where[order], part.reshape(-1)[order])
    sample = responses.of(slots(3, 0, 2, 1))
    for share in (0.0, 0.5, 0.9, 1.0):
        found = sample.quantile(TFO, share)
        assert found[:3] == pytest.approx(np.quantile(durations, share, axis=1), rel=1e-6)
        assert np.isnan(found[3])
    assert np.isnan(sample.quantile(NORMAL, 0.5)).all()
    assert sample.counts[TFO].tolist() == [KEPT, KEPT, KEPT, 0]


def test_one_duration_is_every_quantile() -> None:
    responses = Responses(1)
    add_each(responses, TFO, slots(0), np.array([5.0]))
    assert [float(responses.of(slots(0)).quantile(TFO, share)[0]) for share in (0, 0.5, 0.9, 1)] == [5.0] * 4


def test_beyond_the_limit_it_is_a_fair_sample_of_the_whole_run() -> None:
    responses = Responses(2)
    many = 40 * KEPT
    for begin in range(0, many, 1000):
        numbers = np.arange(begin, min(many, begin + 1000), dtype=np.float64)
        add_each(responses, TFO, np.zeros(len(numbers), np.intp), numbers)
    sample = responses.of(slots(0))
    assert sample.counts[TFO, 0] == many
    kept = np.sort(sample.values[TFO, 0])
    assert len(np.unique(kept)) == KEPT
    # of a uniform sample each quarter of the run has a quarter, give or take five standard deviations
    quarters = np.histogram(kept, bins=4, range=(0, many))[0]
    assert np.abs(quarters - KEPT / 4).max() < 5 * np.sqrt(KEPT * 0.25 * 0.75)


def test_what_was_cleared_begins_anew() -> None:
    responses = Responses(2)
    add_each(responses, TFO, slots(0, 1), np.array([1.0, 2.0]))
    responses.clear(slots(0))
    add_each(responses, TFO, slots(0), np.array([9.0]))
    assert responses.of(slots(0, 1)).quantile(TFO, 0.5).tolist() == [9.0, 2.0]


def add(
    responses: Responses, slot: int, tfo: int, normal: int, tfo_us: float = 100.0, normal_us: float = 200.0
) -> None:
    for kind, count, value in ((TFO, tfo, tfo_us), (NORMAL, normal, normal_us), (RTT, tfo + normal, 50.0)):
        add_each(responses, kind, np.full(count, slot, np.intp), np.full(count, value))


def test_only_enough_of_both_is_compared() -> None:
    responses = Responses(5)
    for slot, (tfo, normal) in enumerate(
        [(ENOUGH, ENOUGH), (ENOUGH - 1, 1000), (1000, ENOUGH - 1), (0, 2000), (ENOUGH, ENOUGH + 1)]
    ):
        add(responses, slot, tfo, normal)
    found = responses.of(np.arange(5)).compared()
    assert responses.enough(np.arange(5)).tolist() == [True, False, False, False, True]
    assert found.sooner_us[[0, 4]].tolist() == [100.0, 100.0]
    assert found.sooner_rtts[[0, 4]].tolist() == [2.0, 2.0]
    assert np.isnan(found.sooner_us[1:4]).all()
    assert responses.ranked(np.arange(5), 10).tolist() == [4, 0, 1, 2, 3]
    assert responses.ranked(np.arange(5), 10, only_enough=True).tolist() == [4, 0]
    assert responses.ranked(np.arange(5), 1).tolist() == [4]


def test_without_a_round_trip_there_are_milliseconds_only() -> None:
    responses = Responses(1)
    for kind, value in ((TFO, 100.0), (NORMAL, 200.0)):
        add_each(responses, kind, np.zeros(ENOUGH, np.intp), np.full(ENOUGH, value))
    found = responses.of(slots(0)).compared()
    assert found.sooner_us[0] == 100.0
    assert np.isnan(found.sooner_rtts[0])


# --- the table of a run ---


def made_up(seed: int, count: int, servers: int) -> Batch:
    rng = np.random.default_rng(seed)
    events = random_events(rng, count, peers=servers, odd=False)
    events["server_port"] = 443
    return batch_of(events)


def test_the_benefits_of_a_run() -> None:
    batch = made_up(11, 4000, 6)
    table = BenefitTable()
    for begin in range(0, len(batch), 333):
        table.add(batch_of(batch.events[begin : begin + 333]))
    expected: dict[tuple[str, int], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in Composer(INTERFACES).compose(batch):
        response = record.handshake.first_response_us
        kind = "tfo" if record.tfo.outcome in ACCEPTED else "normal" if not record.syn.payload_len else None
        if response is None or kind is None:
            continue
        own = expected[record.server.ip, record.server.port]
        own[kind].append(response)
        if record.handshake.rtt_us is not None:
            own["rtt"].append(record.handshake.rtt_us)
    found = table.benefits()
    assert {(one.ip, one.port) for one in found} == expected.keys()
    assert [one.tfo_samples + one.normal_samples for one in found] == sorted(
        (len(own["tfo"]) + len(own["normal"]) for own in expected.values()), reverse=True
    )
    for one in found:
        own = expected[one.ip, one.port]
        assert (one.tfo_samples, one.normal_samples) == (len(own["tfo"]), len(own["normal"]))
        if max(len(values) for values in own.values()) > KEPT:
            continue  # a sample: another test
        assert one.tfo_median_us == pytest.approx(np.median(own["tfo"]), rel=1e-5)
        assert one.normal_p90_us == pytest.approx(np.quantile(own["normal"], 0.9), rel=1e-5)
        assert one.sooner_us == pytest.approx(np.median(own["normal"]) - np.median(own["tfo"]), rel=1e-3, abs=0.01)
        assert one.sooner_rtts == pytest.approx(one.sooner_us / np.median(own["rtt"]), rel=1e-3, abs=1e-3)


def test_the_table_is_bounded_and_so_is_the_record() -> None:
    table = BenefitTable(limit=64)
    for seed in range(3):
        table.add(made_up(seed, 3000, 500))
    assert len(table.benefits(1000)) <= 64
    crowd = BenefitTable()
    crowd.add(made_up(5, 60_000, 300))
    assert len(crowd.benefits()) == RECORDED


def test_nothing_seen_is_nothing_said() -> None:
    table = BenefitTable()
    table.add(batch_of(made_up(1, 1, 1).events[:0]))
    assert table.benefits() == ()
    assert Aggregate().totals().handshakes == 0


def test_a_record_has_the_interval_and_what_it_shows() -> None:
    table = BenefitTable()
    table.add(made_up(11, 4000, 6))
    found = table.benefits()
    assert found
    for one in found:
        assert one.sooner_low_us is not None
        assert one.sooner_high_us is not None
        assert one.sooner_low_us <= one.sooner_us <= one.sooner_high_us
        assert one.sooner_us - one.sooner_low_us == pytest.approx(one.sooner_high_us - one.sooner_us, abs=0.01)
        assert one.difference == DIFFERENCE_WORDS[difference(one)]


def benefit(sooner_us: float, error_us: float, sooner_rtts: float | None = 1.0, ip: str = "192.0.2.1") -> Benefit:
    return Benefit(
        ip, 443, 20, 30, 40_000.0, 41_000.0, 40_000.0 + sooner_us, 90_000.0, 40_000.0, sooner_us, sooner_rtts,
        sooner_us - error_us, sooner_us + error_us,
    )  # fmt: skip


def test_the_summary_names_the_first_few() -> None:
    said: list[str] = []
    tell((benefit(40_400.0, 600.0, 1.01), benefit(-100.0, 200.0, None, "2001:db8::1")), said.append)
    assert said == [
        "first response of 192.0.2.1:443 with Fast Open: 40.4 ± 0.6 ms (1.0 RTT) sooner, median 40.0 ms with it (20 "
        "samples), 80.4 ms without (30)",
        "first response of [2001:db8::1]:443 with Fast Open: no difference to be seen, median 40.0 ms with "
        "it (20 samples), 39.9 ms without (30)",
    ]
    said.clear()
    tell((benefit(1.0, 1.0),) * (TOLD + 4), said.append)
    assert len(said) == TOLD


def test_the_summary_does_not_tell_noise_as_a_fact() -> None:
    said: list[str] = []
    tell((benefit(-3400.0, 100.0, -123.48), benefit(90_000.0, 100.0, 2.25)), said.append)
    assert "Fast Open: more than a round trip later: not Fast Open's doing, median" in said[0]
    assert "Fast Open: more than a round trip sooner: not Fast Open's doing alone, median" in said[1]
    assert not any(figure in line for line in said for figure in ("3.40 ms", "123.", "90.0 ms"))
