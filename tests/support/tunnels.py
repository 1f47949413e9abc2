"""Puts packets into tunnels, byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.support.captures import Packet
from tests.support.packets import address, ethernet, ipv4, ipv6

VXLAN, VXLAN_OLD, GENEVE = 4789, 8472, 6081
UDP, GRE = 17, 47
BRIDGED = 0x6558


def outer(
    src: str, dst: str, protocol: int, payload: bytes, *, options: bytes = b"", fragment: int = 0,
    extensions: Sequence[tuple[int, bytes]] = (),
) -> bytes:  # fmt: skip
    """An IP packet around a tunnel header; `options` are those of IPv4, `extensions` those of IPv6."""
    if ":" in src:
        return ipv6(address(src), address(dst), payload, protocol=protocol, extensions=extensions)
    return ipv4(address(src), address(dst), payload, protocol=protocol, options=options, fragment=fragment)


def udp(port: int, payload: bytes, source: int = 50_000) -> bytes:
    """A datagram."""
    return struct.pack("!HHHH", source, port, 8 + len(payload), 0) + payload


def kind_of(ip: bytes) -> int:
    """EtherType of an IP packet."""
    return 0x0800 if ip[0] >> 4 == 4 else 0x86DD


def vxlan(frame: bytes, vni: int, *, flags: int = 0x08, port: int = VXLAN, inner: int = 0) -> bytes:
    """A datagram with an Ethernet frame, or, with the flag 4, with what `inner` says."""
    return udp(port, struct.pack("!BxxBI", flags, inner, vni << 8) + frame)


def geneve(
    payload: bytes, kind: int, vni: int, *, options: bytes = b"", control: bool = False, version: int = 0
) -> bytes:
    """A datagram with what `kind` says."""
    head = struct.pack("!BBHI", version << 6 | len(options) // 4, 0x80 if control else 0, kind, vni << 8)
    return udp(GENEVE, head + options + payload)


def gre(
    payload: bytes, kind: int, *, key: int | None = None, sequence: int | None = None, checksum: bool = False,
    version: int = 0,
) -> bytes:  # fmt: skip
    """A GRE header and what `kind` says."""
    flags = (0x8000 if checksum else 0) | (0x2000 if key is not None else 0) | (0x1000 if sequence is not None else 0)
    head = struct.pack("!HH", flags | version, kind) + (bytes(4) if checksum else b"")
    for number in (key, sequence):
        head += struct.pack("!I", number) if number is not None else b""
    return head + payload


@dataclass(frozen=True)
class Tunnel:
    """A tunnel between two ends. `id`: VNI or GRE's key; `back_id`: the key of packets from the second end."""

    kind: str  # vxlan, geneve, geneve-ip, gre, gretap, ipip
    id: int | None = None
    ends: tuple[str, str] = ("198.51.100.1", "198.51.100.2")
    back_id: int | None = None
    options: bytes = b""  # of outer IPv4
    extensions: tuple[tuple[int, bytes], ...] = ()  # of outer IPv6

    def wrap(self, one: Packet) -> Packet:
        """What was to leave goes from the first end to the second one. VLAN tags are those of the inner frame."""
        src, dst = self.ends if one.outgoing else reversed(self.ends)
        number = self.id if one.outgoing or self.back_id is None else self.back_id
        frame, kind = ethernet(one.ip, one.vlans), kind_of(one.ip)
        protocol, payload = {
            "vxlan": lambda: (UDP, vxlan(frame, number or 0)),
            "geneve": lambda: (UDP, geneve(frame, BRIDGED, number or 0, options=bytes([1, 2, 3, 1, 0, 0, 0, 7]))),
            "geneve-ip": lambda: (UDP, geneve(one.ip, kind, number or 0)),
            "gre": lambda: (GRE, gre(one.ip, kind, key=number, sequence=5, checksum=True)),
            "gretap": lambda: (GRE, gre(frame, BRIDGED, key=number)),
            "ipip": lambda: (4 if kind == 0x0800 else 41, one.ip),
        }[self.kind]()
        ip = outer(src, dst, protocol, payload, options=self.options, extensions=self.extensions)
        return replace(one, ip=ip, vlans=())

    def all(self, packets: Sequence[Packet]) -> list[Packet]:
        """All of them."""
        return [self.wrap(one) for one in packets]


@dataclass(frozen=True)
class Inside:
    """What a packet holds: where it begins, whether that is an Ethernet header, and the tunnels with their numbers."""

    at: int
    ethernet: bool
    path: tuple[tuple[str, int], ...]


_TAGS = (0x8100, 0x88A8, 0x9100)
_EXTENSIONS = {0: 8, 43: 8, 60: 8, 135: 8, 139: 8, 140: 8, 44: 0, 51: 4}  # units of their lengths


def inside(data: bytes, original: int, *, ethernet: bool, depth: int = 4) -> Inside | None:
    """Reads into tunnels one header after the other, by the RFCs: what the replay's columns have to find."""
    found, at, wire = None, 0, max(original, len(data))
    path: tuple[tuple[str, int], ...] = ()
    kind = BRIDGED if ethernet else (0x86DD if data[:1] and data[0] >> 4 == 6 else 0x0800)
    for _ in range(depth):
        step = _inside(data, at, kind, wire)
        if step is None:
            break
        name, number, kind, at, wire = step
        path = (*path, (name, number))
        found = Inside(at, kind == BRIDGED, path)
    return found


def _be(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")


def _inside(data: bytes, at: int, kind: int, wire: int) -> tuple[str, int, int, int, int] | None:
    if kind == BRIDGED:
        kind, at = _be(data, at + 12, 2), at + 14
        for _ in range(2):
            if kind in _TAGS:
                kind, at = _be(data, at + 2, 2), at + 4
    payload = _of_ipv4(data, at, wire) if kind == 0x0800 else _of_ipv6(data, at, wire) if kind == 0x86DD else None
    if payload is None:
        return None
    protocol, begin, wire = payload
    tunnel = _tunnel(data[: min(len(data), wire)], begin, protocol)
    if tunnel is None:
        return None
    name, number, kind, begin = tunnel
    if kind == BRIDGED:
        is_there = begin + 14 < min(len(data), wire)
    else:
        is_there = begin < min(len(data), wire) and data[begin] >> 4 == {0x0800: 4, 0x86DD: 6}.get(kind)
    return (name, number, kind, begin, wire) if is_there else None


def _of_ipv4(data: bytes, at: int, wire: int) -> tuple[int, int, int] | None:
    if at + 20 > len(data) or data[at] >> 4 != 4:
        return None
    length, total = (data[at] & 15) * 4, _be(data, at + 2, 2)
    end = at + total if total else wire
    if length < 20 or end > wire or at + length > min(end, len(data)) or _be(data, at + 6, 2) & 0x3FFF:
        return None
    return data[at + 9], at + length, end


def _of_ipv6(data: bytes, at: int, wire: int) -> tuple[int, int, int] | None:
    if at + 40 > len(data) or data[at] >> 4 != 6:
        return None
    length = _be(data, at + 4, 2)
    end = at + 40 + length if length else wire
    if end > wire or at + 40 > min(end, len(data)):
        return None
    protocol, begin = data[at + 6], at + 40
    for _ in range(6):
        if protocol not in _EXTENSIONS or begin + 8 > min(end, len(data)):
            break
        if protocol == 44:
            if _be(data, begin + 2, 2) & 0xFFF9:
                return None
            size = 8
        else:
            size = (data[begin + 1] + (2 if protocol == 51 else 1)) * _EXTENSIONS[protocol]
        protocol, begin = data[begin], begin + size
    return protocol, begin, end


def _tunnel(data: bytes, at: int, protocol: int) -> tuple[str, int, int, int] | None:
    if protocol in (4, 41):
        return "ipip", -1, 0x0800 if protocol == 4 else 0x86DD, at
    if protocol == GRE and at + 4 <= len(data):
        flags, kind = _be(data, at, 2), _be(data, at + 2, 2)
        begin, key = at + 4 + (4 if flags & 0x8000 else 0), -1
        if flags & 0x2000:
            key, begin = _be(data, begin, 4), begin + 4
        return None if flags & 0x4007 else ("gre", key, kind, begin + (4 if flags & 0x1000 else 0))
    if protocol != UDP or at + 16 > len(data):
        return None
    port, flags, vni = _be(data, at + 2, 2), data[at + 8], _be(data, at + 12, 3)
    if port in (VXLAN, VXLAN_OLD) and flags & 0x09 == 0x08 and data[at + 15] == 0:
        kind = {1: 0x0800, 2: 0x86DD, 3: BRIDGED}.get(data[at + 11], 0) if flags & 4 else BRIDGED
        return "vxlan", vni, kind, at + 16
    if port == GENEVE and flags >> 6 == 0 and data[at + 9] & 0x80 == 0:
        return "geneve", vni, _be(data, at + 10, 2), at + 16 + (flags & 63) * 4
    return None
