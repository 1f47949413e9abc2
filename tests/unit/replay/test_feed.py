"""What the root part is told of each packet of a capture."""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.captures import EN10MB, NULL, SLL, SLL2, Packet, framed, handshake, pcap, pcapng
from tests.support.tunnels import Tunnel
from tracer.linux.libpcap import DUMP_HEADER
from tracer.replay.feed import Feed
from tracer.replay.input import open_input
from tracer.replay.root_part import (
    INTERFACES_MAX,
    SKIP_MAX,
    SLOT_FULL,
    SLOT_SIZE,
    WIRE_LEN_MAX,
    WORD_EGRESS,
    WORD_SKIP_SHIFT,
    WORD_WIRE_SHIFT,
    make_slots,
)

SECOND = 1_000_000_000
Told = tuple[int, int, int, bool]  # interface, bytes to skip, bytes on the wire behind them, sent by the interface


def told(path: Path, content: bytes) -> tuple[list[Told], bool]:
    """What the words say, and whether each packet has its own."""
    path.write_bytes(content)
    source, slots = open_input(path), make_slots()
    feed = Feed(source, slots)
    try:
        frames = feed.read()
        assert frames is not None
        with mmap.mmap(slots[frames.slot], SLOT_SIZE, mmap.MAP_SHARED, mmap.PROT_READ) as memory:
            data = memory[: frames.end]
    finally:
        feed.close()
        source.close()
        for fd in slots:
            os.close(fd)
    found: list[Told] = []
    at = DUMP_HEADER
    while at < len(data):
        captured, last = struct.unpack_from("=II", data, at + 8)
        word = frames.word or last
        skip = word >> WORD_SKIP_SHIFT & SKIP_MAX
        wire = min(last - skip, WIRE_LEN_MAX) if frames.word else word >> WORD_WIRE_SHIFT & WIRE_LEN_MAX
        found.append((word & INTERFACES_MAX, skip, wire, bool(word & WORD_EGRESS)))
        at += 16 + captured
    return found, not frames.word


@pytest.mark.parametrize(("link", "skip"), [(EN10MB, 0), (NULL, 4), (SLL, 2), (SLL2, 6)])
@pytest.mark.parametrize("snaplen", [60, 262144])
def test_the_wire_length_is_that_of_the_record(tmp_path: Path, link: int, skip: int, snaplen: int) -> None:
    packets = handshake()
    found, _ = told(tmp_path / "trace.pcap", pcap(link, packets, snaplen=snaplen))
    assert [one[1:3] for one in found] == [(skip, len(framed(link, packet)) - skip) for packet in packets]


def test_several_interfaces_leave_the_wire_length(tmp_path: Path) -> None:
    packets = [replace(one, interface=number % 3) for number, one in enumerate(handshake())]
    content = pcapng(EN10MB, packets, ("eth0", "eth1", "eth2"), snaplen=70)
    found, each = told(tmp_path / "trace.pcapng", content)
    assert each
    assert found == [(one.interface + 1, 0, len(framed(EN10MB, one)), one.outgoing) for one in packets]


@pytest.mark.parametrize("link", [EN10MB, SLL2])
def test_a_wire_length_beyond_16_bits_is_the_greatest_there_is(tmp_path: Path, link: int) -> None:
    last = handshake()[-1]
    huge = Packet(last.at_ns, last.ip + bytes(100_000))
    limit = Packet(last.at_ns, last.ip + bytes(WIRE_LEN_MAX + 6 - len(framed(SLL2, last))))
    found, _ = told(tmp_path / "trace.pcap", pcap(link, [huge, limit], snaplen=200))
    assert [one[2] for one in found] == [WIRE_LEN_MAX, min(len(framed(link, limit)), WIRE_LEN_MAX)]


def test_the_highest_interface_touches_no_other_field(tmp_path: Path) -> None:
    """A pcapng file with more interfaces than there are numbers: the last one shares a number."""
    names = [f"eth{number}" for number in range(INTERFACES_MAX + 5)]
    packets = [replace(one, interface=INTERFACES_MAX + at) for at, one in enumerate(handshake())]
    found, _ = told(tmp_path / "trace.pcapng", pcapng(EN10MB, packets, names, snaplen=54))
    assert found == [(INTERFACES_MAX, 0, len(framed(EN10MB, one)), one.outgoing) for one in packets]


def test_what_was_in_tunnels_has_numbers_of_its_own(tmp_path: Path) -> None:
    """An Ethernet header comes before what has none, and the wire length ends where the outer packet does."""
    one, other, bare = handshake(port=1)[0], handshake(port=2)[0], handshake(6, port=3)[0]
    packets = [one, Tunnel("vxlan", 1).wrap(one), Tunnel("vxlan", 2).wrap(other), Tunnel("ipip").wrap(bare)]
    packets += [replace(Tunnel("vxlan", 1).wrap(one), interface=1, outgoing=False)]
    for snaplen in (262144, 120):
        found, each = told(tmp_path / "trace.pcapng", pcapng(EN10MB, packets, ("eth0", "eth1"), snaplen=snaplen))
        assert each
        inner = len(framed(EN10MB, one))
        assert found == [
            (1, 0, inner, True), (4, 0, inner, True), (5, 0, inner, True), (3, 0, len(framed(EN10MB, bare)), True),
            (6, 0, inner, False),
        ]  # fmt: skip


def test_tunnels_beyond_the_numbers_stay_in_their_packets(tmp_path: Path) -> None:
    packets = [Tunnel("vxlan", number).wrap(handshake()[0]) for number in range(INTERFACES_MAX + 5)]
    path, slots = tmp_path / "trace.pcap", make_slots()
    path.write_bytes(pcap(EN10MB, packets))
    feed = Feed(open_input(path), slots)
    frames = feed.read()
    assert frames is not None
    assert len(feed.interfaces) == INTERFACES_MAX - 2
    assert max(feed.interfaces) == INTERFACES_MAX - 2
    assert feed.untold == len(packets) - len(feed.interfaces) + 1
    assert {one.group for one in frames.interfaces} == set(range(INTERFACES_MAX - 2))
    feed.close()
    for fd in slots:
        os.close(fd)


@pytest.mark.parametrize("link", [EN10MB, NULL, SLL, SLL2])
def test_what_is_handed_over_is_what_was_inside(tmp_path: Path, link: int) -> None:
    one = handshake()[0]
    frame = framed(EN10MB, one)
    for kind in ("vxlan", "gre", "ipip"):
        path, slots = tmp_path / "trace.pcap", make_slots()
        path.write_bytes(pcap(link, [one, Tunnel(kind, 3).wrap(one), one]))
        feed = Feed(open_input(path), slots)
        frames = feed.read()
        assert frames is not None
        with mmap.mmap(slots[frames.slot], SLOT_SIZE, mmap.MAP_SHARED, mmap.PROT_READ) as memory:
            data = memory[DUMP_HEADER : frames.end]
        middle = data[16 + len(framed(link, one)) : -16 - len(framed(link, one))]
        seconds, nanoseconds, captured = struct.unpack_from("=III", middle)
        assert (seconds, nanoseconds // 1000) == divmod(one.at_ns // 1000, 1_000_000)
        assert captured == len(middle) - 16 == len(frame)
        assert middle[28:] == frame[12:]
        feed.close()
        for fd in slots:
            os.close(fd)


def test_a_capture_lasts_from_its_earliest_packet_to_its_latest(tmp_path: Path) -> None:
    """Also where somebody put an earlier one behind it (mergecap -a)."""
    later, earlier = (pcap(EN10MB, [replace(one, at_ns=at * SECOND) for one in handshake()]) for at in (2000, 1))
    content = later + later[24:] * (2 * SLOT_FULL // len(later)) + earlier[24:]
    path, slots = tmp_path / "trace.pcap", make_slots()
    path.write_bytes(content)
    feed = Feed(open_input(path), slots)
    reads = 0
    while not feed.at_end:
        frames = feed.read()
        assert frames is not None
        feed.done(frames.slot, 1)
        reads += 1
    assert reads > 1
    assert (feed.begin_ns, feed.end_ns) == (SECOND, 2000 * SECOND)
    feed.close()
    for fd in slots:
        os.close(fd)
