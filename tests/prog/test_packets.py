"""The third ring: the headers of the handshake's own packets, each before its record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.decoder import ACK, FIN, PSH, RST, SYN
from tests.support.packets import Flow, address, option, padded
from tests.support.testrun import LOOPBACK, Programs, Road

FLOW = Flow(address("192.0.2.1"), address("198.51.100.2"), 40000, 443)
FLOW6 = Flow(address("2001:db8::1"), address("2001:db8::2"), 40000, 443, ((0x88A8, 100), (0x8100, 7)))
OPTIONS = padded(option(2, b"\x05\xb4") + option(34, bytes(range(8))))
DATA = b"GET / HTTP/1.1\r\n\r\n"


@pytest.fixture(scope="module")
def keeping() -> Iterator[Programs]:
    programs = Programs(packet_pages=64)
    yield programs
    programs.close()


@pytest.fixture
def programs(keeping: Programs) -> Iterator[Programs]:
    keeping.drain()
    keeping.interface(LOOPBACK)
    yield keeping
    keeping.drain()
    keeping.interface(LOOPBACK)


def bytes_of(packets: Any) -> list[bytes]:
    return [bytes(row["data"][: int(row["captured"])]) for row in packets]


def headers(frame: bytes, payload: bytes) -> bytes:
    return frame[: len(frame) - len(payload)]


@pytest.mark.parametrize("road", list(Road))
@pytest.mark.parametrize("flow", [FLOW, FLOW6], ids=["ipv4", "ipv6-qinq"])
def test_the_handshakes_own_packets_come_in_order_and_without_payload(
    programs: Programs, road: Road, flow: Flow
) -> None:
    isn, server = 1000, 5000
    syn = flow.frame(SYN, isn, options=OPTIONS, payload=DATA)
    synack = flow.back.frame(SYN | ACK, server, isn + 1 + len(DATA), options=padded(option(2, b"\x05\xb4")))
    ack = flow.frame(ACK, isn + 1 + len(DATA), server + 1)
    more = flow.frame(ACK | PSH, isn + 1 + len(DATA), server + 1, payload=b"more")
    response = flow.back.frame(ACK | PSH, server + 1, isn + 1 + len(DATA), payload=b"hello")
    late = flow.back.frame(ACK | PSH, server + 6, isn + 1 + len(DATA), payload=b"later")
    for frame in (syn, synack, ack, more, response, late):
        programs.run(road, frame)
    (record,) = programs.events()
    packets = programs.packets()
    expected = [headers(syn, DATA), synack, ack, headers(response, b"hello")]
    assert bytes_of(packets) == expected
    assert packets["headers_len"].tolist() == [len(one) for one in expected]
    assert packets["frame_len"].tolist() == [len(one) for one in (syn, synack, ack, response)]
    assert set(packets["id"].tolist()) == {int(record["id"])}
    assert set(packets["syn_ns"].tolist()) == {int(record["syn_ns"])}
    times = [int(record[name]) for name in ("syn_ns", "synack_ns", "ack_ns", "response_ns")]
    assert packets["now_ns"].tolist() == times
    assert set(packets["egress"].tolist()) == {road is Road.TC_EGRESS}


def test_every_syn_counts_and_what_refuses_it(programs: Programs) -> None:
    before = programs.counters()
    syn = FLOW.frame(SYN, 1, options=OPTIONS, payload=DATA)
    bare = FLOW.frame(SYN, 1)
    reset = FLOW.back.frame(RST | ACK, 0, 2)
    for frame in (syn, bare, reset, bare, reset):  # the last two come to a tombstone
        programs.run(Road.TC_INGRESS, frame)
    assert bytes_of(programs.packets()) == [headers(syn, DATA), bare, reset]
    after = programs.counters()
    assert (after["packets_kept"] - before["packets_kept"], after["packets_lost"]) == (3, before["packets_lost"])


def test_packets_of_nobody_are_not_kept(programs: Programs) -> None:
    for frame in (
        FLOW.frame(SYN | FIN, 1),
        FLOW.back.frame(SYN | ACK, 5, 2),
        FLOW.frame(ACK, 2, 6),
        FLOW.frame(RST, 2),
    ):
        programs.run(Road.TC_INGRESS, frame)
    assert len(programs.packets()) == 0
    # what a packet before left in the work space is not sent again
    programs.run(Road.TC_INGRESS, FLOW.frame(SYN, 1))
    programs.run(Road.TC_INGRESS, FLOW.frame(SYN | FIN, 1))
    assert len(programs.packets()) == 1


def test_a_frame_without_link_header_says_so(programs: Programs) -> None:
    programs.interface(LOOPBACK, no_link_header=True)
    frame = FLOW.frame(SYN, 1)[14:]
    programs.run(Road.TC_INGRESS, frame)
    (packet,) = programs.packets()
    assert (int(packet["no_link_header"]), bytes_of([packet])) == (1, [frame])


def test_a_full_ring_is_counted() -> None:
    programs = Programs(packet_pages=1)
    try:
        before = programs.counters()
        for port in range(40):
            programs.run(Road.TC_INGRESS, Flow(FLOW.src, FLOW.dst, port, 443).frame(SYN, 1))
        after = programs.counters()
        kept = after["packets_kept"] - before["packets_kept"]
        # a page holds 16 packets of 240 bytes and a header of 8
        assert kept == 16
        assert after["packets_lost"] - before["packets_lost"] == 40 - kept
        assert len(programs.packets()) == kept
        programs.sweep(flush=True)
        assert len(programs.events()) == 40  # the records are all there
    finally:
        programs.close()
