"""Packets in tunnels are found, one in another too; what is none, or cannot be read, stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.captures import Packet, handshake
from tests.support.packets import ethernet, ipv4
from tests.support.tunnels import (
    BRIDGED,
    GENEVE,
    GRE,
    UDP,
    VXLAN_OLD,
    Inside,
    Tunnel,
    geneve,
    gre,
    inside,
    kind_of,
    outer,
    udp,
    vxlan,
)  # fmt: skip
from tracer.replay.packets import HEAD, SLACK, Memory, Packets
from tracer.replay.peel import peel
from tracer.replay.tunnels import Tunnels

V4, V6 = ("198.51.100.1", "198.51.100.2"), ("2001:db8:f::1", "2001:db8:f::2")
KINDS = ["vxlan", "geneve", "geneve-ip", "gre", "gretap", "ipip"]
WORDS = {"geneve-ip": "geneve", "gretap": "gre"}
SYN4, SYN6 = handshake(4)[0], handshake(6)[0]


def peeled(
    frames: Sequence[bytes], *, ethernet: bool = True, snaplen: int = 1 << 16, originals: Sequence[int] = ()
) -> list[tuple[Inside, int] | None]:
    """What each frame holds, with the number of bytes to where it ended on the wire."""
    data, starts, stops = bytearray(), [], []
    for frame in frames:
        data += bytes(HEAD)
        starts.append(len(data))
        data += frame[:snaplen]
        stops.append(len(data))
    data += b"\xff" * SLACK
    begins = np.array(starts, np.intp)
    lengths = np.array(originals or [len(frame) for frame in frames], np.int64)
    zeros = np.zeros(len(frames), np.int64)
    packets = Packets(Memory(data), begins, np.array(stops, np.intp), lengths, zeros, zeros)
    tunnels = Tunnels()
    found = peel(packets, begins, np.full(len(frames), ethernet), tunnels)
    results: list[tuple[Inside, int] | None] = [None] * len(frames)
    if found is not None:
        assert len(set(found.rows.tolist())) == len(found.rows)
        for row, at, bridged, wire, number in zip(
            found.rows.tolist(), found.at.tolist(), found.is_ethernet.tolist(), found.wires.tolist(),
            found.tunnels.tolist(), strict=True,
        ):  # fmt: skip
            path = tuple((word, -1) for word in tunnels.through[number])
            results[row] = Inside(at - starts[row], bridged, path), wire - at
    return results


def wanted(frame: bytes, original: int, *, ethernet: bool = True) -> Inside | None:
    """The same of one frame, without the numbers of its tunnels."""
    found = inside(frame, original, ethernet=ethernet)
    return None if found is None else replace(found, path=tuple((name, -1) for name, _ in found.path))


def whole(one: Packet, tunnel: Tunnel) -> bytes:
    return ethernet(tunnel.wrap(one).ip)


@pytest.mark.parametrize("syn", [SYN4, SYN6], ids=["in4", "in6"])
@pytest.mark.parametrize("ends", [V4, V6], ids=["out4", "out6"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(kind: str, ends: tuple[str, str], syn: Packet) -> None:
    ip = Tunnel(kind, 77, ends).wrap(syn).ip
    is_bridged = kind in ("vxlan", "geneve", "gretap")
    inner = ethernet(syn.ip) if is_bridged else syn.ip
    for frame, link in ((ethernet(ip), True), (ethernet(ip, (5,)), True), (ethernet(ip, (5, 6)), True), (ip, False)):
        padded = frame + bytes(9)  # Ethernet's, beyond what the outer header says
        (found,) = peeled([padded], ethernet=link)
        at = len(frame) - len(inner)
        assert found == (Inside(at, is_bridged, ((WORDS.get(kind, kind), -1),)), len(inner))


@pytest.mark.parametrize("kind", KINDS)
def test_options_and_extension_headers_outside(kind: str) -> None:
    extensions = ((0, bytes(8)), (60, bytes([0, 1]) + bytes(14)), (51, bytes([0, 4]) + bytes(22)), (44, bytes(8)))
    for tunnel in (
        Tunnel(kind, 1, V4, options=b"\x94\x04\0\0" + b"\1" * 8),
        Tunnel(kind, 1, V6, extensions=extensions),
    ):
        frame = whole(SYN4, tunnel)
        (found,) = peeled([frame])
        assert found is not None
        assert frame[found[0].at :].endswith(SYN4.ip)
        assert found[1] == len(frame) - found[0].at


def test_tunnels_in_tunnels() -> None:
    layers = [Tunnel("ipip"), Tunnel("gre", 1, V6), Tunnel("vxlan", 2), Tunnel("geneve", 3, V6), Tunnel("gretap", 4)]
    one, words, frames = SYN4, [], []
    for layer in layers:
        one = replace(layer.wrap(one), outgoing=True)
        words.insert(0, WORDS.get(layer.kind, layer.kind))
        frames.append(ethernet(one.ip))
    for depth, (frame, found) in enumerate(zip(frames, peeled(frames), strict=True), 1):
        assert found is not None
        assert [word for word, _ in found[0].path] == words[-depth:][: min(depth, 4)]
        assert frame[found[0].at :].endswith(SYN4.ip)
        assert found[0].at == len(frame) - len(SYN4.ip) - (0 if depth < 5 else len(frames[0]) - 14 - len(SYN4.ip))


FRAME4 = ethernet(SYN4.ip)
DNS = bytes.fromhex(
    "12348180000100010000000003777777076578616d706c6503636f6d0000010001c00c00010001000000e10004c0000201"
)
FALSE_FRIENDS = {
    "vxlan without its bit": outer(*V4, UDP, vxlan(FRAME4, 1, flags=0)),
    "vxlan-gpe with mpls": outer(*V4, UDP, vxlan(FRAME4, 1, flags=0x0C, inner=5)),
    "vxlan-gpe with the other IP": outer(*V4, UDP, vxlan(SYN4.ip, 1, flags=0x0C, inner=2)),
    "vxlan of control": outer(*V4, UDP, vxlan(FRAME4, 1, flags=0x09)),
    "vxlan with its last byte set": outer(*V4, UDP, vxlan(FRAME4, 0)[:15] + b"\1" + vxlan(FRAME4, 0)[16:]),
    "dns from the port of vxlan": outer(*V4, UDP, udp(40_000, DNS, source=4789)),
    "dns to it": outer(*V4, UDP, udp(4789, DNS)),
    "another port": outer(*V4, UDP, vxlan(FRAME4, 1, port=4790)),
    "geneve of control": outer(*V4, UDP, geneve(FRAME4, BRIDGED, 1, control=True)),
    "geneve of version 1": outer(*V4, UDP, geneve(FRAME4, BRIDGED, 1, version=1)),
    "geneve with something else": outer(*V4, UDP, geneve(SYN4.ip, 0x8847, 1)),
    "geneve with the other IP": outer(*V4, UDP, geneve(SYN4.ip, 0x86DD, 1)),
    "geneve with options beyond its end": outer(*V4, UDP, udp(GENEVE, b"\x3f\0" + b"\x65\x58" + bytes(4) + FRAME4)),
    "pptp": outer(*V4, GRE, gre(SYN4.ip, 0x880B, key=1, version=1)),
    "gre of version 1 with IP": outer(*V4, GRE, gre(SYN4.ip, 0x0800, version=1)),
    "gre with routing": outer(*V4, GRE, b"\x40\0" + gre(SYN4.ip, 0x0800)[2:]),
    "erspan": outer(*V4, GRE, gre(bytes(8) + FRAME4, 0x88BE, sequence=1)),
    "erspan of type 3": outer(*V4, GRE, gre(bytes(12) + FRAME4, 0x22EB, sequence=1)),
    "mpls in gre": outer(*V4, GRE, gre(bytes(4) + SYN4.ip, 0x8847)),
    "gre keepalive": outer(*V4, GRE, gre(b"", 0)),
    "gre with the other IP": outer(*V4, GRE, gre(SYN6.ip, 0x0800)),
    "gre with nothing": outer(*V4, GRE, gre(b"", 0x0800)),
    "ipip of no version": outer(*V4, 4, b"\x55" + SYN4.ip[1:]),
    "ipip of the other version": outer(*V4, 4, SYN6.ip),
    "6in4 of the other version": outer(*V4, 41, SYN4.ip),
    "the first fragment": outer(*V4, 4, SYN4.ip, fragment=0x2000),
    "another fragment": outer(*V4, 4, SYN4.ip, fragment=0x0010),
    "a fragment of IPv6": outer(*V6, 4, SYN4.ip, extensions=((44, b"\0\0\0\1" + bytes(4)),)),
    "IPv6's last fragment": outer(*V6, 4, SYN4.ip, extensions=((44, b"\0\0\0\x08" + bytes(4)),)),
    "more extension headers than are read": outer(*V6, 4, SYN4.ip, extensions=((60, bytes(8)),) * 7),
    "an outer length beyond the wire": ipv4(bytes(16), bytes(16), SYN4.ip, protocol=4)[:2] + b"\xff\xff"
    + ipv4(bytes(16), bytes(16), SYN4.ip, protocol=4)[4:],
    "an outer header of 16 bytes": b"\x44" + outer(*V4, 4, SYN4.ip)[1:],
    "tcp": SYN4.ip,
    "esp": outer(*V4, 50, SYN4.ip),
}  # fmt: skip


@pytest.mark.parametrize("name", FALSE_FRIENDS)
def test_false_friends_stay_as_they_are(name: str) -> None:
    ip = FALSE_FRIENDS[name]
    assert peeled([ethernet(ip), ethernet(ip, (3,)), ethernet(ip, (1, 2, 3))]) == [None] * 3
    assert peeled([ip], ethernet=False) == [None]
    # inside another tunnel they are handed over with what is around them
    (found,) = peeled([ethernet(outer(*V6, GRE, gre(ip, kind_of(ip))))])
    assert found is not None
    assert found[0].path == (("gre", -1),)


def test_three_tags_and_other_link_layers_stay() -> None:
    ip = Tunnel("vxlan", 1).wrap(SYN4).ip
    other = bytes(12) + b"\x88\x64" + bytes(8) + ip
    assert peeled([ethernet(ip, (1, 2, 3)), other, other[:14], b"", b"\0"]) == [None] * 5


def test_the_old_port_of_vxlan() -> None:
    (found,) = peeled([ethernet(outer(*V6, UDP, vxlan(FRAME4, 1, port=VXLAN_OLD)))])
    assert found is not None


@pytest.mark.parametrize(("inner", "payload"), [(1, SYN4.ip), (2, SYN6.ip), (3, FRAME4)])
def test_vxlan_that_says_what_is_inside(inner: int, payload: bytes) -> None:
    frame = ethernet(outer(*V4, UDP, vxlan(payload, 1, flags=0x0C, inner=inner)))
    (found,) = peeled([frame])
    assert found == (Inside(len(frame) - len(payload), inner == 3, (("vxlan", -1),)), len(payload))


def frames() -> list[bytes]:
    """Of every kind, in all families, and what looks like them."""
    made = [whole(syn, Tunnel(kind, 5, ends, back_id=6)) for kind in KINDS for ends in (V4, V6) for syn in (SYN4, SYN6)]
    nested = Tunnel("vxlan", 1, V6).wrap(Tunnel("gre", 2).wrap(Tunnel("ipip", ends=V6).wrap(SYN4)))
    made += [ethernet(nested.ip, (8,)), ethernet(Tunnel("geneve", 9, V6).wrap(nested).ip)]
    extensions = ((0, bytes(8)), (44, bytes(8)), (51, bytes([0, 4]) + bytes(22)))
    made += [
        whole(SYN4, Tunnel("gre", 2, V6, extensions=extensions)),
        whole(SYN6, Tunnel("vxlan", 2, options=bytes(40))),
    ]
    return made + [ethernet(ip) for ip in FALSE_FRIENDS.values()]


FRAMES = frames()


@pytest.mark.parametrize("snaplen", range(0, 240, 1))
def test_a_capture_that_cuts_anywhere(snaplen: int) -> None:
    found = peeled(FRAMES, snaplen=snaplen)
    assert [one and one[0] for one in found] == [wanted(frame[:snaplen], len(frame)) for frame in FRAMES]


changes = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6)


@given(
    st.lists(st.tuples(st.sampled_from(FRAMES), changes, st.integers(0, 400), st.integers(-50, 300)), max_size=12),
    st.booleans(),
)
def test_whatever_the_bytes_are(some: list[tuple[bytes, list[tuple[int, int]], int, int]], is_ethernet: bool) -> None:
    """Columns find what reading one header after the other finds, of damaged packets too."""
    made, originals = [], []
    for frame, spoilt, cut, longer in some:
        data = bytearray(frame if is_ethernet else frame[14:])
        for at, value in spoilt:
            if at < len(data):
                data[at] = value
        made.append(bytes(data[:cut]))
        originals.append(max(len(data) + longer, 0))
    found = peeled(made, ethernet=is_ethernet, originals=originals) if made else []
    expected = [wanted(one, length, ethernet=is_ethernet) for one, length in zip(made, originals, strict=True)]
    assert [one and one[0] for one in found] == expected


@given(st.lists(st.binary(max_size=120), max_size=20), st.booleans())
def test_noise(some: list[bytes], is_ethernet: bool) -> None:
    found = peeled(some, ethernet=is_ethernet) if some else []
    assert [one and one[0] for one in found] == [wanted(one, len(one), ethernet=is_ethernet) for one in some]
