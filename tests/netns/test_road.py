"""The demo's road: what Fast Open saves at servers 20 and 80 ms away, and what each site far away shows.

A benefit is compared with the round trip that the same run measured. What a busy machine adds makes the interval wider.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import pytest

from tests.support.patience import LONG_S
from tests.support.tracing import CHECKOUT, Record, Run, assert_balanced, tracing, with_run_dir
from tracer.lab import sites, topology
from tracer.lab.road import ROADS
from tracer.lab.sites import SITES, Site
from tracer.records.record import Handshake
from tracer.records.run import Benefit

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(300)]

COMMAND = [str(CHECKOUT / "tfotrace")]
ENOUGH = 20  # handshakes of each kind with the slowest site
ROUND_TRIP_US = {road.place: road.round_trip_ms * 1000 for road in ROADS}
FAR = pytest.mark.parametrize("site", [sites.EU, sites.US], ids=lambda site: site.name)


class Watch:
    """Notes what has come, and says when there is enough of it."""

    def __init__(self) -> None:
        self.at_us: Counter[bool] = Counter()  # with data in the SYN?
        self.causes: set[str | None] = set()

    def __call__(self, record: Record) -> bool:
        if isinstance(record, Handshake):
            if record.server.ip == sites.US.address and record.handshake.after == "response":
                self.at_us[record.syn.payload_len > 0] += 1
            self.causes |= {record.handshake.cause, record.tfo.cause}
        wanted = {"accept_queue_full", "path_drops_syn_data", "key_not_shared"}
        return min(self.at_us[True], self.at_us[False]) >= ENOUGH and wanted <= self.causes


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    run_dir = tmp_path_factory.mktemp("road") / "run"
    with tracing("demo", "--json", prefix=with_run_dir(run_dir), command=COMMAND) as run:
        run.wait_for(Watch(), "enough handshakes, and all causes", LONG_S)
        assert run.stop() == 0, run.said
        yield run


@pytest.fixture(scope="module")
def visits(demo: Run) -> dict[str, list[Handshake]]:
    """Handshakes by server address, those that the end did not cut."""
    found = defaultdict(list)
    for one in demo.handshakes:
        if one.handshake.settled_by != "at_end":
            found[one.server.ip].append(one)
    return found


def benefit_at(demo: Run, site: Site) -> Benefit:
    (found,) = (one for one in demo.end.benefits if (one.ip, one.port) == (site.address, topology.SERVICE_TLS))
    return found


@FAR
def test_a_round_trip_takes_as_long_as_it_should_at_least(demo: Run, site: Site) -> None:
    measured_us = benefit_at(demo, site).rtt_median_us
    assert measured_us is not None
    assert measured_us >= ROUND_TRIP_US[site.place]


@FAR
def test_fast_open_saves_the_round_trip_and_is_told_to(demo: Run, site: Site) -> None:
    one = benefit_at(demo, site)
    assert min(one.tfo_samples, one.normal_samples) >= ENOUGH
    assert one.difference == "sooner"
    assert one.rtt_median_us is not None
    assert one.sooner_us is not None
    assert one.sooner_low_us is not None
    assert one.sooner_high_us is not None
    assert one.sooner_low_us > 0  # with 95 % confidence
    within_us = max(0.05 * one.rtt_median_us, one.sooner_high_us - one.sooner_us)
    assert one.sooner_us == pytest.approx(one.rtt_median_us, abs=within_us)


def test_with_most_servers_nearby_there_is_no_difference_to_be_seen(demo: Run) -> None:
    near = {topology.service_address(n, v) for n in range(topology.SERVICE_HOSTS) for v in topology.versions()}
    told = Counter(one.difference for one in demo.end.benefits if one.ip in near)
    assert told["no_difference"] > told.total() / 2, told


@FAR
def test_a_healthy_site_takes_every_cookie(visits: dict[str, list[Handshake]], site: Site) -> None:
    seen = Counter(one.tfo.outcome for one in visits[site.address] if one.handshake.syn_count == 1)
    assert seen.keys() == {"cookie_granted", "data_acked", "not_attempted"}
    assert seen["cookie_granted"] == 1


def test_two_servers_without_a_shared_key(visits: dict[str, list[Handshake]]) -> None:
    seen = visits[sites.TWO_KEYS.address]
    assert {one.tfo.outcome for one in seen} >= {"data_acked", "data_not_acked_new_cookie"}
    assert "key_not_shared" in {one.tfo.cause for one in seen}


def test_a_firewall_eats_syn_data_and_nothing_else(visits: dict[str, list[Handshake]]) -> None:
    seen = visits[sites.FIREWALL.address]
    with_data = [one for one in seen if one.syn.payload_len]
    assert {one.tfo.outcome for one in with_data} == {"syn_timeout_fallback"}
    assert "path_drops_syn_data" in {one.tfo.cause for one in with_data}
    bare = [one for one in seen if not one.syn.payload_len]
    assert {one.handshake.result for one in bare} == {"established"}


def test_a_full_accept_queue(visits: dict[str, list[Handshake]]) -> None:
    seen = visits[sites.BUSY.address]
    assert {one.handshake.result for one in seen} == {"established"}
    assert ("accept_queue_full", "server") in {(one.handshake.cause, one.handshake.cause_at) for one in seen}


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_a_site_is_told_by_its_name(demo: Run, visits: dict[str, list[Handshake]], site: Site) -> None:
    names = {one.tls.sni for one in visits[site.address] if one.tls is not None}
    assert names == (set() if site is sites.BUSY else {site.name})  # nothing is read of what follows the handshake
    told = f"in this demo {site.address} is {site.name}, {ROUND_TRIP_US[site.place] // 1000} ms away: "
    assert sum(told in line for line in demo.said) == 1


def test_nothing_is_lost_on_the_road(demo: Run) -> None:
    assert_balanced(demo.end)
    assert demo.end.balance is not None
    assert (demo.end.balance.lost, demo.end.balance.evicted) == (0, 0)
