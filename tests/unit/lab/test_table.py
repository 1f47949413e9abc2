"""The lab's table of scenarios: complete, with the vocabulary's words, and one server address each."""

from __future__ import annotations

import ipaddress
import ssl

from scapy.layers.dns import DNS

from tests.support.vocabulary import OUTCOMES, RESULTS
from tracer.lab import payloads, topology
from tracer.lab.road import ROADS
from tracer.lab.scenarios import SCENARIOS, server_address
from tracer.lab.sites import SITES

# TFO.md section 3, word for word
REQUESTS = {
    "none",
    "cookie_request",
    "cookie_request_and_data",
    "cookie",
    "cookie_and_data",
    "data_only",
    "malformed",
}
HANDSHAKES = [handshake for scenario in SCENARIOS for handshake in scenario.handshakes]


def test_every_request_outcome_and_result_is_played() -> None:
    assert {handshake.request for handshake in HANDSHAKES} == REQUESTS
    assert {handshake.outcome for handshake in HANDSHAKES} == OUTCOMES
    assert {handshake.result for handshake in HANDSHAKES} == RESULTS


def test_those_that_settle_by_a_timeout_come_first() -> None:
    late = {"no_reply", "half_open"}
    positions = [
        position
        for position, scenario in enumerate(SCENARIOS)
        if scenario.slow or any(handshake.result in late for handshake in scenario.handshakes)
    ]
    assert positions == list(range(len(positions)))


def test_each_scenario_has_a_name_an_explanation_and_addresses_of_its_own() -> None:
    addresses = [server_address(scenario, version) for scenario in SCENARIOS for version in (4, 6)]
    assert len(set(addresses)) == len(addresses)
    others = {topology.client_address(4), topology.client_address(6)}
    others |= {topology.service_address(n, v) for n in range(topology.SERVICE_HOSTS) for v in (4, 6)}
    assert not others & set(addresses)
    for scenario in SCENARIOS:
        for version in (4, 6):
            address = ipaddress.ip_address(server_address(scenario, version))
            assert address.version == version
            assert address in ipaddress.ip_network(topology.network(scenario.place, version))
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
    assert all(scenario.play.__doc__ for scenario in SCENARIOS)


def test_each_site_has_a_name_and_an_address_of_its_own_at_the_end_of_a_road() -> None:
    assert len({site.name for site in SITES}) == len({site.address for site in SITES}) == len(SITES)
    gateways = {topology.address(road.place, 1, 4) for road in ROADS}
    for site in SITES:
        assert site.place in {road.place for road in ROADS}
        assert ipaddress.ip_address(site.address) in ipaddress.ip_network(topology.network(site.place, 4))
        assert site.address not in gateways
        assert site.about


def test_dns_question_and_answer_are_understood_by_scapy() -> None:
    query = payloads.dns_query("www.demo.example")
    asked = DNS(query[2:])
    assert int.from_bytes(query[:2], "big") == len(query) - 2
    assert asked.qd[0].qname == b"www.demo.example."
    answer = payloads.dns_answer(query)
    told = DNS(answer[2:])
    assert int.from_bytes(answer[:2], "big") == len(answer) - 2
    assert (told.id, told.qr, told.an[0].rdata) == (asked.id, 1, "192.0.2.1")


def test_client_hello_leads_to_a_finished_tls_handshake() -> None:
    hello = payloads.ClientHello(payloads.client_tls(), "www.demo.example")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = payloads.server_tls().wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(hello.first_flight)
    try:
        server.do_handshake()
    except ssl.SSLWantReadError:
        reply = hello.receive(outgoing.read())
    assert reply is not None
    incoming.write(reply)
    server.do_handshake()
    assert server.selected_alpn_protocol() == "h2"
    assert server.read() == payloads.HTTP_REQUEST
