"""Captures whose interfaces differ in link type, snap length or resolution of time."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.captures import (
    EN10MB,
    NULL,
    RAW,
    SLL,
    SLL2,
    Packet,
    enhanced,
    handshake,
    interface,
    pcap,
    pcapng,
    section,
)  # fmt: skip
from tests.support.replays import assert_accepted, judged, replay
from tests.support.tracing import run
from tracer.records.run import NoticeRecord

pytestmark = pytest.mark.root

WIFI = 105


def mixed(interfaces: list[bytes], packets: list[tuple[int, Packet]]) -> bytes:
    """A section of these interfaces; each packet with its link type, in the order of their times."""
    packets = sorted(packets, key=lambda one: one[1].at_ns)
    return b"".join([section(), *interfaces, *(enhanced(link, one) for link, one in packets)])


def test_interfaces_of_every_link_type(tmp_path: Path) -> None:
    links = [EN10MB, RAW, SLL, SLL2, NULL, EN10MB]
    interfaces = [interface(link, f"eth{at}", snaplen=60_000 + at) for at, link in enumerate(links)]
    packets = [
        (link, replace(one, interface=at))
        for at, link in enumerate(links)
        for version in (4, 6)
        for one in handshake(version, port=1000 + at)
    ]
    found = judged(tmp_path, mixed(interfaces, packets))
    names = ["eth0", "eth1", "eth2", "if3", "eth4", "eth5"]
    assert sorted((one.client.port, one.interface) for one in found) == sorted(
        [(1000 + at, name) for at, name in enumerate(names)] * 2
    )
    for one in found:
        assert_accepted(one)
        assert one.through == ()


def test_one_handshake_at_interfaces_of_different_types(tmp_path: Path) -> None:
    """A router between a tunnel device and Ethernet: it is one handshake."""
    packets = []
    for one in handshake():
        packets.append((RAW, replace(one, outgoing=not one.outgoing)))
        packets.append((EN10MB, replace(one, interface=1, at_ns=one.at_ns + 15_000)))
    (one,) = judged(tmp_path, mixed([interface(RAW, "tun0"), interface(EN10MB, "eth0")], packets))
    assert_accepted(one)
    assert (one.interface, one.handshake.syn_count) == ("tun0", 1)


def test_packets_of_other_link_types_are_counted(tmp_path: Path) -> None:
    interfaces = [interface(WIFI, "wlan0"), interface(EN10MB, "eth0")]
    frames = [(EN10MB, one) for one in handshake(port=1)] + [(EN10MB, replace(one, interface=1)) for one in handshake()]
    path = tmp_path / "trace.pcapng"
    path.write_bytes(mixed(interfaces, frames))
    (one,), records, done = replay(path)
    assert done.code == 0
    assert_accepted(one)
    said = [one.text for one in records if isinstance(one, NoticeRecord) and one.kind == "link_not_read"]
    assert said == ["4 packets of link type IEEE802_11 (802.11), which is not read: left out"]


def test_a_later_section_may_be_the_first_that_can_be_read(tmp_path: Path) -> None:
    other = mixed([interface(WIFI, "wlan0")], [(EN10MB, one) for one in handshake(port=1)])
    (one,) = judged(tmp_path, other + pcapng(EN10MB, handshake()), name="trace.pcapng")
    assert_accepted(one)
    assert one.interface == "eth7"


def test_a_filter_that_needs_ethernet_leaves_out_what_has_none(tmp_path: Path) -> None:
    path = tmp_path / "trace.pcapng"
    bare = mixed([interface(RAW, "tun0")], [(RAW, one) for one in handshake(port=2)])
    path.write_bytes(pcapng(EN10MB, handshake(vlans=(7,))) + bare)
    (one,), records, done = replay(path, "--filter", "vlan 7")
    assert done.code == 0
    assert one.vlan == (7,)
    assert any(isinstance(one, NoticeRecord) and one.kind == "link_not_read" for one in records)
    path.write_bytes(bare)
    refused = run("replay", str(path), "--filter", "vlan 7")
    assert refused.code == 2
    assert "whose packets begin with the IP header" in refused.said[-1]


@pytest.mark.skipif(shutil.which("mergecap") is None, reason="mergecap is not installed")
def test_what_mergecap_makes(tmp_path: Path) -> None:
    parts = {
        "a.pcap": pcap(EN10MB, handshake(port=1), nano=True, snaplen=200),
        "b.pcap": pcap(RAW, handshake(6, port=2), nano=True, snaplen=300),
        "c.pcapng": pcapng(SLL, handshake(port=3), ("eth9",), ">"),
    }  # fmt: skip
    for name, content in parts.items():
        (tmp_path / name).write_bytes(content)
    merged = tmp_path / "merged.pcapng"
    subprocess.run(
        ["mergecap", "-F", "pcapng", "-w", merged, *(tmp_path / name for name in parts)], check=True, timeout=60
    )
    found, _, done = replay(merged)
    assert done.code == 0
    assert sorted(one.client.port for one in found) == [1, 2, 3]
    for one in found:
        assert_accepted(one)
