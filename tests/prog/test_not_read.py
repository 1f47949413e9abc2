"""What may hold handshakes that are not read is counted by kind at every hook, and what only looks like it is not."""

from __future__ import annotations

import struct

import pytest

from tests.support.decoder import SYN
from tests.support.packets import Flow, address, ethernet, ipv4, ipv6, tcp_header, udp
from tests.support.testrun import LOOPBACK, Programs, Road

A4, B4 = address("192.0.2.1"), address("198.51.100.2")
A6, B6 = address("2001:db8::1"), address("2001:db8::2")
SEGMENT = tcp_header(40000, 443, 1000, 0, SYN)
INNER4, INNER6 = ipv4(A4, B4, SEGMENT), ipv6(A6, B6, SEGMENT)
INNER_FRAME = Flow(A4, B4, 40000, 443).frame(SYN, 1000)
VXLAN = struct.pack("!II", 0x08000000, 7 << 8) + INNER_FRAME
GENEVE = struct.pack("!HHI", 0, 0x6558, 7 << 8) + INNER_FRAME
GTP = struct.pack("!BBHI", 0x30, 255, len(INNER4), 7) + INNER4
GRE = struct.pack("!HH", 0, 0x0800) + INNER4
MPLS = struct.pack("!I", 16 << 12 | 0x1FF) + INNER4
PPPOE = struct.pack("!BBHHH", 0x11, 0, 7, 2 + len(INNER4), 0x0021) + INNER4
DISCOVERY = struct.pack("!BBHH", 0x11, 0x09, 0, 0) + bytes(40)
SGT = struct.pack("!BBHHH", 1, 1, 1, 100, 0x0800) + INNER4
DESTINATION = 60, bytes(8)
FIRST_FRAGMENT, LATER_FRAGMENT = (44, b"\0\0\0\x01" + bytes(4)), (44, b"\0\0\0\x08" + bytes(4))
IPV4_OPTIONS = bytes([1, 1, 1, 0])
IPV4_FIRST, IPV4_LATER = 0x2000, 0x0100
ROADS = pytest.mark.parametrize("road", list(Road))


def inside(protocol: int, payload: bytes) -> dict[str, bytes]:
    """Frames with such a packet, with all that may stand before it."""
    return {
        "IPv4": ethernet(ipv4(A4, B4, payload, protocol=protocol)),
        "IPv4 with options": ethernet(ipv4(A4, B4, payload, protocol=protocol, options=IPV4_OPTIONS)),
        "IPv4, the first fragment": ethernet(ipv4(A4, B4, payload, protocol=protocol, fragment=IPV4_FIRST)),
        "IPv6": ethernet(ipv6(A6, B6, payload, protocol=protocol)),
        "IPv6 with options": ethernet(ipv6(A6, B6, payload, protocol=protocol, extensions=[DESTINATION])),
        "IPv6, the first fragment": ethernet(
            ipv6(A6, B6, payload, protocol=protocol, extensions=[DESTINATION, FIRST_FRAGMENT])
        ),
        "two tags": ethernet(ipv4(A4, B4, payload, protocol=protocol), [(0x88A8, 10), 20]),
    }


def later(protocol: int, payload: bytes) -> dict[str, bytes]:
    """Fragments after the first, whose first bytes are anything: here what a first one would begin with."""
    return {
        "IPv4, a later fragment": ethernet(ipv4(A4, B4, payload, protocol=protocol, fragment=IPV4_LATER)),
        "IPv6, a later fragment": ethernet(ipv6(A6, B6, payload, protocol=protocol, extensions=[LATER_FRAGMENT])),
    }


def tagged(kind: int, rest: bytes) -> dict[str, bytes]:
    """Frames of such an ethertype."""
    return {
        "untagged": ethernet(rest, kind=kind),
        "a tag": ethernet(rest, [10], kind),
        "two tags": ethernet(rest, [(0x88A8, 10), 20], kind),
    }


CARRIED = {
    ("gre", "GRE"): inside(47, GRE),
    ("vxlan", "VXLAN"): inside(17, udp(50000, 4789, VXLAN)),
    ("vxlan", "VXLAN at Linux' own port"): inside(17, udp(50000, 8472, VXLAN)),
    ("geneve", "GENEVE"): inside(17, udp(50000, 6081, GENEVE)),
    ("gtp", "GTP-U"): inside(17, udp(2152, 2152, GTP)),
    ("ipip", "IPv4 inside"): inside(4, INNER4),
    ("ipip", "IPv6 inside"): inside(41, INNER6),
    ("mpls", "MPLS"): tagged(0x8847, MPLS),
    ("mpls", "MPLS, multicast"): tagged(0x8848, MPLS),
    ("pppoe", "PPPoE"): tagged(0x8864, PPPOE),
    ("sgt", "Cisco SGT"): tagged(0x8909, SGT),
    ("vlan", "three tags"): {
        "802.1Q": ethernet(INNER4, [10, 20, 30]),
        "802.1ad": ethernet(INNER6, [(0x88A8, 10), (0x88A8, 20), 30]),
        "four": ethernet(INNER4, [10, 20, 30, 40]),
        "priority": ethernet(INNER4, [0, 0, 0]),
    },
}
ROWS = [
    pytest.param(kind, frame, id=f"{what}, {where}")
    for (kind, what), frames in CARRIED.items()
    for where, frame in frames.items()
]
OTHERS = {
    "UDP to another port": inside(17, udp(50000, 443, bytes(100))),
    "a reply from VXLAN's port": inside(17, udp(4789, 50000, bytes(100))),
    "GTP's control": inside(17, udp(2123, 2123, bytes(100))),
    "fewer bytes than a UDP header": inside(17, udp(50000, 4789, b"")[:7]),
    "ESP": inside(50, bytes(100)),
    "SCTP": inside(132, udp(50000, 4789, bytes(100))),
    "VXLAN": later(17, udp(50000, 4789, VXLAN)),
    "GRE": later(47, GRE),
    "IP in IP": later(4, INNER4),
    "PPPoE discovery": tagged(0x8863, DISCOVERY),
    "ARP": tagged(0x0806, bytes(28)),
}
FALSE_FRIENDS = [
    pytest.param(frame, id=f"{what}, {where}") for what, frames in OTHERS.items() for where, frame in frames.items()
]
READ = {
    "two tags": ethernet(INNER4, [(0x88A8, 10), 20]),
    "destination options": ethernet(ipv6(A6, B6, SEGMENT, extensions=[DESTINATION])),
    "from VXLAN's port": Flow(A4, B4, 4789, 443).frame(SYN, 1000),
    "to VXLAN's port": Flow(A4, B4, 40000, 4789).frame(SYN, 1000),
    "to GENEVE's port": Flow(A6, B6, 40000, 6081).frame(SYN, 1000),
}


def counted(programs: Programs, road: Road, frame: bytes) -> dict[str, int]:
    """Which counters moved."""
    before = programs.counters()
    programs.run(road, frame)
    after = programs.counters()
    return {name: after[name] - value for name, value in before.items() if after[name] != value}


@ROADS
@pytest.mark.parametrize(("kind", "frame"), ROWS)
def test_each_kind_is_counted_as_itself_and_as_nothing_else(
    programs: Programs, road: Road, kind: str, frame: bytes
) -> None:
    assert counted(programs, road, frame) == {"packets": 1, f"not_read_{kind}": 1}


@ROADS
@pytest.mark.parametrize("frame", FALSE_FRIENDS)
def test_what_holds_no_handshake_is_no_tunnel(programs: Programs, road: Road, frame: bytes) -> None:
    assert counted(programs, road, frame) == {"packets": 1, "not_tcp": 1}


@ROADS
@pytest.mark.parametrize("frame", READ.values(), ids=READ)
def test_handshakes_that_are_read_are_not_counted_as_unread(programs: Programs, road: Road, frame: bytes) -> None:
    assert counted(programs, road, frame) == {"packets": 1, "syns": 1, "opened": 1}


def test_a_frame_without_link_header_is_told_by_its_protocol(programs: Programs) -> None:
    programs.interface(LOOPBACK, no_link_header=True)
    datagram = udp(50000, 4789, VXLAN)
    frames = {
        "not_read_gre": ipv4(A4, B4, GRE, protocol=47),
        "not_read_ipip": ipv6(A6, B6, INNER4, protocol=4),
        "not_read_vxlan": ipv4(A4, B4, datagram, protocol=17),
    }
    for name, frame in frames.items():
        # the test run takes a frame's first bytes for its link header, and the programs read from there on
        assert counted(programs, Road.XDP, frame) == {"packets": 1, name: 1}


@pytest.mark.parametrize("damage", [slice(0, 30), slice(0, 60)])
def test_a_damaged_carrier_is_malformed_only(programs: Programs, damage: slice) -> None:
    """Its IP header is cut, or says that there is more than there is: what it carries is not known."""
    frame = ethernet(ipv4(A4, B4, GRE, protocol=47))[damage]
    moved = counted(programs, Road.XDP, frame)
    assert moved.pop("packets") == 1
    assert [name.partition("_")[0] for name in moved] == ["malformed"]
