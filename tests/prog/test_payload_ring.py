"""The payload of a SYN arrives completely in the second ring, or is counted."""

from __future__ import annotations

import pytest

from tests.support.decoder import SYN, handshake_id
from tests.support.packets import Flow, address, option, padded
from tests.support.testrun import Programs, Road

CLIENT = Flow(address("192.0.2.1"), address("198.51.100.2"), 40000, 443)
CLIENT6 = Flow(address("2001:db8::1"), address("2001:db8::2"), 40000, 443, ((0x88A8, 100), (0x8100, 7)))
OPTIONS = padded(option(2, b"\x05\xb4") + option(34, bytes(range(8))))
# A page, less 256 bytes in front and 320 behind, is what XDP's test frame can hold in one piece.
XDP_FRAME_MAX = 4096 - 256 - 320


def pattern(size: int) -> bytes:
    """Bytes that differ within any distance below 251."""
    return bytes((i * 7 + i // 251) % 256 for i in range(size))


@pytest.mark.parametrize("road", list(Road))
@pytest.mark.parametrize("flow", [CLIENT, CLIENT6], ids=["ipv4", "ipv6-qinq"])
def test_payload_of_any_size_arrives_whole(programs: Programs, road: Road, flow: Flow) -> None:
    expected = []
    for size in [*range(1, 1461), 3300]:
        frame = flow.frame(SYN, size, options=OPTIONS, payload=pattern(size))
        programs.run(road, frame)
        programs.sweep(flush=True)
        expected.append((handshake_id(flow.src, flow.dst, flow.sport, flow.dport, size), size, pattern(size)))
    assert [(p.id, p.len, p.data) for p in programs.payloads()] == expected
    assert programs.events()["id"].tolist() == [identity for identity, _, _ in expected]


@pytest.mark.parametrize("road", list(Road))
def test_largest_payload_the_kernel_lets_us_try(programs: Programs, road: Road) -> None:
    headers = len(CLIENT.frame(SYN, 1, options=OPTIONS))
    size = XDP_FRAME_MAX - headers if road is Road.XDP else 3500
    programs.run(road, CLIENT.frame(SYN, 1, options=OPTIONS, payload=pattern(size)))
    (payload,) = programs.payloads()
    assert (payload.len, payload.data) == (size, pattern(size))


@pytest.mark.parametrize("road", list(Road))
def test_padding_of_the_frame_is_no_payload(programs: Programs, road: Road) -> None:
    programs.run(road, CLIENT.frame(SYN, 1, payload=b"ab") + bytes(6))
    programs.run(road, CLIENT.frame(SYN, 2) + bytes(6))
    assert [(p.len, p.data) for p in programs.payloads()] == [(2, b"ab")]


@pytest.mark.parametrize("road", list(Road))
def test_only_the_first_syn_sends_its_payload(programs: Programs, road: Road) -> None:
    before = programs.counters()
    for _ in range(3):
        programs.run(road, CLIENT.frame(SYN, 1, payload=b"hello"))
    assert [p.data for p in programs.payloads()] == [b"hello"]
    assert programs.counters()["payloads"] - before["payloads"] == 1


def test_full_payload_ring_is_counted(small: Programs) -> None:
    before = small.counters()
    for i in range(5):
        small.run(
            Road.TC_INGRESS, Flow(CLIENT.src, CLIENT.dst, i, 443).frame(SYN, 1, payload=pattern(1000)), at_ns=1000
        )
    after = small.counters()
    assert after["payloads"] - before["payloads"] == 3
    assert after["payloads_lost"] - before["payloads_lost"] == 2
    assert [p.data for p in small.payloads()] == [pattern(1000)] * 3
