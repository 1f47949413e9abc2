"""Captures of tunnels: the handshakes inside are judged as they would be outside, and as tshark sees them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet as ScapyPacket
from scapy.utils import wrpcap

from tests.support.captures import EN10MB, RAW, SLL, SLL2, Packet, handshake, pcap, pcapng
from tests.support.packets import ethernet, ipv4
from tests.support.replays import assert_accepted, judged, replay
from tests.support.shark import shark
from tests.support.tracing import run
from tests.support.tunnels import BRIDGED, Tunnel, geneve, gre, outer, udp, vxlan
from tests.support.tunnels import GRE as GRE_PROTOCOL
from tests.support.tunnels import UDP as UDP_PROTOCOL
from tracer.records.record import Handshake
from tracer.records.run import NoticeRecord, Start

pytestmark = pytest.mark.root

V4, V6 = ("198.51.100.1", "198.51.100.2"), ("2001:db8:f::1", "2001:db8:f::2")
KINDS = ["vxlan", "geneve", "geneve-ip", "gre", "gretap", "ipip"]
WORDS = {"geneve-ip": "geneve", "gretap": "gre"}


def of_every_kind() -> tuple[list[Packet], dict[int, tuple[str, ...]]]:
    """Handshakes in tunnels, one in another too; by the client's port what they are in."""
    packets, through = [], {}
    for number, kind in enumerate(KINDS):
        for at, ends in enumerate((V4, V6)):
            for version in (4, 6):
                port = 1000 + 100 * number + 10 * at + version
                tunnel = Tunnel(kind, 77, ends, options=b"\x94\x04\0\0", extensions=((60, bytes(8)),))
                packets += tunnel.all(handshake(version, port=port))
                through[port] = (WORDS.get(kind, kind),)
    around, within = Tunnel("vxlan", 5, V6), Tunnel("gre", 6)
    packets += around.all(Tunnel("ipip").all(handshake(port=2000)))
    packets += around.all(within.all(Tunnel("geneve", 3, V6).all(handshake(6, port=2001))))
    through |= {2000: ("vxlan", "ipip"), 2001: ("vxlan", "gre", "geneve")}
    packets += handshake(port=3000)
    return packets, through | {3000: ()}


def assert_as_tshark_says(path: Path, found: list[Handshake]) -> None:
    """Segments with SYN: the innermost addresses, ports, numbers and options are those of tshark's dissection."""
    rows = shark(
        path, "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "tcp.srcport", "tcp.dstport", "tcp.seq",
        "tcp.len", "tcp.options.mss_val", "tcp.options.tfo.cookie", "frame.protocols",
        only="tcp.flags.syn == 1",
    )  # fmt: skip
    said = set()
    for row in rows:
        family = "ipv6" if "ipv6:tcp" in row["frame.protocols"] else "ip"
        ends = tuple(row[f"{family}.{end}"].split(",")[-1] for end in ("src", "dst"))
        said.add((
            *ends, int(row["tcp.srcport"]), int(row["tcp.dstport"]), int(row["tcp.seq"]),
            int(row["tcp.len"]), row["tcp.options.mss_val"], row["tcp.options.tfo.cookie"],
        ))  # fmt: skip
    ours = set()
    for one in found:
        client, server = (one.client.ip, one.client.port), (one.server.ip, one.server.port)
        ours.add((
            client[0], server[0], client[1], server[1], one.syn.seq, one.syn.payload_len,
            str(one.syn.mss), one.tfo.cookie or "",
        ))  # fmt: skip
        assert one.synack is not None
        ours.add((
            server[0], client[0], server[1], client[1], one.synack.seq, one.synack.payload_len,
            str(one.synack.mss), one.tfo.synack_cookie or "",
        ))  # fmt: skip
    assert ours == said


@pytest.mark.parametrize("link", [EN10MB, RAW, SLL, SLL2])
def test_every_kind(tmp_path: Path, link: int) -> None:
    packets, through = of_every_kind()
    packets = [replace(one, interface=3) for one in packets]
    found = judged(tmp_path, pcap(link, packets, nano=True), "--show-cookies")
    assert {one.client.port: one.through for one in found} == through
    assert len(found) == len(through)
    for one in found:
        assert_accepted(one)
        assert one.interface == ("if3" if link == SLL2 else "trace.pcap")
        assert one.vlan == ()
    assert_as_tshark_says(tmp_path / "trace.pcap", found)


def test_in_pcapng_with_tags_outside_and_inside(tmp_path: Path) -> None:
    packets = Tunnel("vxlan", 9).all(handshake(port=1, vlans=(7,))) + Tunnel("gre", 9).all(handshake(port=2))
    packets = [replace(one, vlans=(40, 41)) for one in packets]
    found = judged(tmp_path, pcapng(EN10MB, packets), name="trace.pcapng")
    assert sorted((one.client.port, one.vlan, one.through) for one in found) == [
        (1, (7,), ("vxlan",)),
        (2, (), ("gre",)),
    ]
    for one in found:
        assert_accepted(one)
        assert one.interface == "eth7"


def test_what_is_cut_to_128_bytes(tmp_path: Path) -> None:
    """VXLAN over IPv4 leaves 78 bytes: an inner header without options but the MSS fits, one with more does not."""
    tunnel = Tunnel("vxlan", 5)
    packets = tunnel.all(handshake(port=1, data=b"x" * 300)) + Tunnel("ipip").all(handshake(port=2))
    path = tmp_path / "trace.pcap"
    path.write_bytes(pcap(EN10MB, packets, nano=True, snaplen=128))
    found, records, done = replay(path)
    assert done.code == 0
    assert [(one.client.port, one.through) for one in found] == [(2, ("ipip",))]
    assert found[0].tfo.outcome == "data_acked"
    said = [one.text for one in records if isinstance(one, NoticeRecord) and one.kind == "headers_cut"]
    assert len(said) == 1
    assert "capture at least 178 bytes" in said[0]
    found = judged(tmp_path, pcap(EN10MB, packets, nano=True, snaplen=178))
    assert sorted((one.client.port, one.tfo.outcome) for one in found) == [(1, "data_acked"), (2, "data_acked")]
    assert found[1].syn.payload_len + found[0].syn.payload_len == 341


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Tunnel("vxlan", 1), Tunnel("vxlan", 2)),
        (Tunnel("geneve", 1), Tunnel("geneve", 2)),
        (Tunnel("gre", 1), Tunnel("gre", 2)),
        (Tunnel("gretap"), Tunnel("gretap", ends=("198.51.100.1", "198.51.100.3"))),
        (Tunnel("ipip"), Tunnel("ipip", ends=("198.51.100.3", "198.51.100.2"))),
        (Tunnel("vxlan", 1), Tunnel("geneve", 1)),
    ],
    ids=["vxlan", "geneve", "gre", "gretap", "ipip", "kinds"],
)
def test_equal_addresses_in_two_tunnels_are_two_connections(tmp_path: Path, one: Tunnel, other: Tunnel) -> None:
    """The second one is refused by the answer's number, had it been taken for the first one's."""
    first, second = handshake(), handshake(accepted=False)
    packets = sorted([*one.all(first), *other.all(second), *handshake()], key=lambda each: each.at_ns)
    found = judged(tmp_path, pcap(EN10MB, packets, nano=True))
    assert len(found) == 3
    assert len({each.id for each in found}) == 1
    assert sorted(each.tfo.outcome or "" for each in found) == ["data_acked", "data_acked", "data_not_acked"]
    assert all(each.handshake.syn_count == 1 and each.handshake.misfits is None for each in found)


def test_half_a_handshake_in_one_tunnel_is_not_completed_in_another(tmp_path: Path) -> None:
    packets = handshake()
    split = [Tunnel("vxlan", 1).wrap(packets[0]), *Tunnel("vxlan", 2).all(packets[1:])]
    (one,) = judged(tmp_path, pcap(EN10MB, split, nano=True))
    assert one.handshake.result == "no_reply"


@pytest.mark.parametrize("keys", [(1, 2), (None, 2), (1, None)])
def test_gre_with_a_key_for_each_direction(tmp_path: Path, keys: tuple[int | None, int | None]) -> None:
    tunnels = [Tunnel("gre", key) for key in keys]
    packets = [tunnels[0 if one.outgoing else 1].wrap(one) for one in handshake()]
    (one,) = judged(tmp_path, pcap(EN10MB, packets, nano=True))
    assert_accepted(one)


def test_a_packet_that_comes_back_through_its_tunnel_is_a_copy(tmp_path: Path) -> None:
    """A load balancer sends each packet to an appliance and has it back, in the same tunnel."""
    tunnel = Tunnel("geneve", 0)
    back = replace(tunnel, ends=(tunnel.ends[1], tunnel.ends[0]))
    packets = []
    for one in handshake():
        packets += [tunnel.wrap(one), replace(back.wrap(one), at_ns=one.at_ns + 200_000)]
    (one,) = judged(tmp_path, pcap(EN10MB, packets, nano=True))
    assert (one.tfo.outcome, one.handshake.syn_count, one.handshake.synack_count) == ("data_acked", 1, 1)
    assert one.handshake.copies


def test_inside_and_outside_of_a_tunnel_are_two_records(tmp_path: Path) -> None:
    """A host with a tunnel device, captured at all its interfaces."""
    packets = []
    for one in handshake():
        packets += [
            replace(one, interface=5),
            replace(Tunnel("vxlan", 1).wrap(one), interface=2, at_ns=one.at_ns + 9000),
        ]
    found = judged(tmp_path, pcap(SLL2, packets, nano=True))
    assert {(one.interface, one.through) for one in found} == {("if5", ()), ("if2", ("vxlan",))}
    assert len({one.id for one in found}) == 1


def test_a_tunnel_seen_at_two_interfaces_is_one(tmp_path: Path) -> None:
    packets = []
    for one in Tunnel("vxlan", 1).all(handshake()):
        packets += [replace(one, outgoing=False), replace(one, interface=1, outgoing=True, at_ns=one.at_ns + 15_000)]
    (one,) = judged(tmp_path, pcapng(EN10MB, packets, ("eth0", "eth1")), name="trace.pcapng")
    assert_accepted(one)
    assert (one.interface, one.handshake.syn_count) == ("eth0", 1)


FRAME = ethernet(handshake()[0].ip)
FALSE_FRIENDS = [
    outer(*V4, UDP_PROTOCOL, vxlan(FRAME, 1, flags=0)), outer(*V4, UDP_PROTOCOL, udp(50_000, b"\x12" * 60, 4789)),
    outer(*V4, GRE_PROTOCOL, gre(handshake()[0].ip, 0x880B, key=1, version=1)),
    outer(*V4, GRE_PROTOCOL, gre(bytes(8) + FRAME, 0x88BE, sequence=1)),
    outer(*V4, UDP_PROTOCOL, geneve(FRAME, BRIDGED, 1, control=True)),
    ipv4(bytes(16), bytes(16), b"\x55" + handshake()[0].ip[1:], protocol=4),
    outer(*V4, 4, handshake()[0].ip, fragment=0x2000),
]  # fmt: skip


def test_false_friends_hold_no_handshakes(tmp_path: Path) -> None:
    packets = [Packet(handshake()[0].at_ns, ip) for ip in FALSE_FRIENDS]
    (one,) = judged(tmp_path, pcap(EN10MB, [*packets, *handshake(port=5)], nano=True))
    assert (one.client.port, one.through) == (5, ())


def test_start_names_interfaces_and_no_tunnels(tmp_path: Path) -> None:
    path = tmp_path / "trace.pcapng"
    path.write_bytes(pcapng(EN10MB, Tunnel("vxlan", 1).all(handshake())))
    _, records, _ = replay(path)
    assert isinstance(records[0], Start)
    assert [one.name for one in records[0].interfaces if one.name != "eth7"] == []
    assert len(records[0].interfaces) <= 1


def test_recordings_keep_what_it_came_through(tmp_path: Path) -> None:
    packets, _ = of_every_kind()
    path = tmp_path / "trace.pcap"
    path.write_bytes(pcap(EN10MB, packets, nano=True))
    found, _, recorded = replay(path)
    events = tmp_path / "events.jsonl"
    events.write_bytes(recorded.out)
    done = run("replay", str(events), "--json")
    assert (done.code, done.out) == (0, recorded.out)
    through = [one for one in found if "vxlan" in one.through]
    for file in (path, events):
        again, _, _ = replay(file, "--filter-record", 'through == "vxlan"')
        assert [one.client.port for one in again] == [one.client.port for one in through]
    text = run("replay", str(events), "--text", "--filter-record", "through == ipip and through == vxlan")
    assert b"through vxlan, ipip" in text.out


def test_a_filter_looks_at_what_is_inside(tmp_path: Path) -> None:
    packets = Tunnel("vxlan", 1).all(handshake(port=1)) + Tunnel("vxlan", 1).all(handshake(port=2))
    (one,) = judged(tmp_path, pcap(EN10MB, packets, nano=True), "--filter", "tcp port 2")
    assert one.client.port == 2


ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")


def test_packets_as_scapy_makes_them(tmp_path: Path) -> None:
    """Headers that none of our code wrote."""
    ends: list[tuple[tuple[str, ...], ScapyPacket]] = [
        (("vxlan",), ETHER / Dot1Q(vlan=5) / IP(src=V4[0], dst=V4[1]) / UDP(dport=4789) / VXLAN(vni=42) / ETHER),
        (
            ("gre",),
            ETHER / IPv6(src=V6[0], dst=V6[1]) / GRE(key_present=1, key=7, seqnum_present=1, chksum_present=1),
        ),
        (("gre",), ETHER / IP(src=V4[0], dst=V4[1]) / GRE() / ETHER),
        (("ipip",), ETHER / IP(src=V4[0], dst=V4[1])),
        (("ipip",), ETHER / IPv6(src=V6[0], dst=V6[1])),
    ]
    frames = []
    for number, (_, head) in enumerate(ends):
        for inner in (IP(src="10.0.0.1", dst="10.0.0.2"), IPv6(src="fd00::1", dst="fd00::2")):
            one = inner / TCP(sport=100 + number, dport=80, flags="S", seq=1000 + number, options=[("MSS", 1400)])
            frames.append(head.copy() / one)
    path = tmp_path / "scapy.pcap"
    wrpcap(str(path), frames)
    found, _, done = replay(path)
    assert done.code == 0
    assert sorted((one.client.port, one.client.ip, one.through) for one in found) == sorted(
        (100 + number, ip, through) for number, (through, _) in enumerate(ends) for ip in ("10.0.0.1", "fd00::1")
    )
    assert all(one.syn.mss == 1400 for one in found)


def test_many_tunnels_are_read_up_to_a_limit_and_the_rest_is_told(tmp_path: Path) -> None:
    packets = [
        replace(one, at_ns=one.at_ns + number * 1000)
        for number in range(4500)
        for one in Tunnel("vxlan", number).all(handshake()[:2])
    ]
    path = tmp_path / "trace.pcap"
    path.write_bytes(pcap(EN10MB, sorted(packets, key=lambda one: one.at_ns), nano=True))
    found, records, done = replay(path)
    assert done.code == 0
    assert len(found) == 4092
    (said,) = [one.text for one in records if isinstance(one, NoticeRecord) and one.kind == "tunnels_not_read"]
    assert said.startswith(f"{2 * (4500 - 4092)} packets")
