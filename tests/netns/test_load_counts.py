"""Ten thousand handshakes at full speed: all are recorded, and the kernel's counters agree."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.load import CLIENT, SERVER, SNI, Records, Traced, Wire, assert_nothing_lost, traced, wire
from tests.support.patience import FACTOR

pytestmark = [pytest.mark.root, pytest.mark.timeout(300 * FACTOR)]

COUNT = 10_000
# Client addresses, each with a cookie of its own. The kernel keeps about five for one server; with more it drops them
# while other CPUs read them, and now and then sends a wrong one.
SOURCES = 4


@pytest.fixture(scope="module", params=[4, 6], ids=["ipv4", "ipv6"])
def both_sides(request: pytest.FixtureRequest) -> tuple[dict[str, Records], Counter[str], Counter[str]]:
    """Records of a run traced at both hosts at once, and how the counters of client and server moved."""
    with wire() as hosts:
        with traced(hosts.client) as at_client, traced(hosts.server) as at_server:
            before = _counters(hosts)
            made = hosts.handshakes(COUNT, processes=2, tfo_percent=50, sources=SOURCES, family=request.param)
            after = _counters(hosts)
            assert made["answered"] == made["connections"] == COUNT
            assert made["failed"] == 0
            records = {"client": _stopped(at_client), "server": _stopped(at_server)}
        moved = [Counter({name: new[name] - old[name] for name in new}) for old, new in zip(before, after, strict=True)]
        return records, moved[0], moved[1]


def _counters(hosts: Wire) -> tuple[dict[str, int], dict[str, int]]:
    return hosts.client.tcp_counters(), hosts.server.tcp_counters()


def _stopped(run: Traced) -> Records:
    records = run.stop()
    assert_nothing_lost(records)
    return records


@pytest.mark.parametrize("side", ["client", "server"])
class TestCounts:
    def test_a_record_a_handshake(self, both_sides, side: str) -> None:
        records = both_sides[0][side]
        assert len(records.handshakes) == COUNT
        assert records.end["totals"]["handshakes"] == COUNT
        assert records.count("handshake", "result") == {"established": COUNT}
        assert records.count("handshake", "settled_by") == {"response": COUNT}
        assert {record["vantage"] for record in records.handshakes} == {side}

    def test_the_kernel_counted_the_same(self, both_sides, side: str) -> None:
        records, at_client, at_server = both_sides
        outcomes, requests = records[side].count("tfo", "outcome"), records[side].count("tfo", "request")
        assert outcomes["data_acked"] == at_client["TCPFastOpenActive"] == at_server["TCPFastOpenPassive"] > COUNT / 3
        assert requests["cookie_request"] == at_server["TCPFastOpenCookieReqd"]
        assert requests["cookie_request"] >= SOURCES
        assert outcomes["cookie_granted"] == requests["cookie_request"]
        assert sum(requests.values()) - requests["none"] == COUNT // 2
        assert outcomes["not_attempted"] == COUNT // 2
        assert outcomes.total() == COUNT

    def test_every_payload_finds_its_record(self, both_sides, side: str) -> None:
        with_data = [r for r in both_sides[0][side].handshakes if r["syn"]["payload_len"]]
        assert len(with_data) == COUNT // 2 - both_sides[2]["TCPFastOpenCookieReqd"]
        assert {r["payload"]["protocol"] for r in with_data} == {"tls"}
        assert {r["tls"]["sni"] for r in with_data} == {SNI}

    def test_addresses_are_those_of_the_hosts(self, both_sides, side: str) -> None:
        records = both_sides[0][side].handshakes
        family = 6 if ":" in records[0]["server"]["ip"] else 4
        assert {r["server"]["ip"] for r in records} == {SERVER[family]}
        clients = {r["client"]["ip"] for r in records}
        assert len(clients) == SOURCES
        assert CLIENT[family] in clients


def test_both_sides_name_the_same_handshakes(both_sides) -> None:
    ids = [{record["id"] for record in both_sides[0][side].handshakes} for side in ("client", "server")]
    assert ids[0] == ids[1]
