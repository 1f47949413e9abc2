"""Finds the packets inside tunnels: VXLAN, GENEVE, GRE (RFC 2784, 2890) and IP in IP, one in another too.

Nearly all packets of most captures are none of these, so a few bytes of each decide which are looked at closely. All
of it is done on columns: whatever the bytes are, a packet is read into or stays as it is. Read into are headers that
were captured as a whole, of outer packets that are no fragments.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from tracer.handshake.events import Bool
from tracer.replay.packets import I64, Index, Memory, Packets
from tracer.replay.tunnels import KEY, Kind, Tunnels

DEPTH_MAX = 4
ETHERNET_LEN = 14
BRIDGED, _IPV4, IPV6 = 0x6558, 0x0800, 0x86DD  # what begins at a place, by its EtherType
_TAGS = (0x8100, 0x88A8, 0x9100)
_TAGS_MAX = 2  # as the programs
_IN_IP, _UDP, _GRE = {4: _IPV4, 41: IPV6}, 17, 47
_VXLAN_PORTS, _GENEVE_PORT = (4789, 8472), 6081
_FRAGMENT, _AUTHENTICATION = 44, 51
_EXTENSIONS = (0, 43, _FRAGMENT, _AUTHENTICATION, 60, 135, 139, 140)
_EXTENSIONS_MAX = 6
_IPV4_IS_FRAGMENT, _IPV6_IS_FRAGMENT = 0x3FFF, 0xFFF9  # more fragments, or an offset


def _table(size: int, *numbers: int) -> Bool:
    found = np.zeros(size, np.bool_)
    found[list(numbers)] = True
    return found


_IS_TAG = _table(1 << 16, *_TAGS)
_IS_EXTENSION = _table(256, *_EXTENSIONS)
_MAY_HOLD = _table(256, _UDP, _GRE, *_IN_IP, *_EXTENSIONS)
_GPE_INNER = np.zeros(256, np.int64)
_GPE_INNER[1:4] = _IPV4, IPV6, BRIDGED
_IS_PORT = _table(1 << 16, *_VXLAN_PORTS, _GENEVE_PORT)


@dataclass(slots=True)
class Headers:
    """Headers of packets, by the packet's row: each begins `at` a byte of the memory and is an Ethernet header
    (BRIDGED) or what its EtherType says. `stops`: end of the captured bytes; `wires`: where it ended on the wire;
    `tunnels`: in which tunnel it is, 0 if none."""

    rows: Index
    at: Index
    kinds: I64
    stops: Index
    wires: I64
    tunnels: Index

    def only(self, keep: Bool | Index) -> Headers:
        """Some of them."""
        return Headers(*(getattr(self, one.name)[keep] for one in fields(self)))

    @property
    def is_ethernet(self) -> Bool:
        """Does it begin with an Ethernet header?"""
        found: Bool = self.kinds == BRIDGED
        return found


def peel(packets: Packets, at: Index, ethernet: Bool, tunnels: Tunnels) -> Headers | None:
    """The innermost headers of packets in tunnels. Those of the packets begin `at` bytes of the memory.

    Tunnel 0 stands for one that has got no number any more.
    """
    memory = packets.memory
    rows = _candidates(memory, at, ethernet)
    if not len(rows):
        return None
    begins, starts, stops = at[rows], packets.starts[rows], packets.stops[rows]
    bare = np.where(memory.read(begins, "u1") >> 4 == 6, IPV6, _IPV4)
    kinds = np.where(ethernet[rows], BRIDGED, bare)
    wires = starts + np.maximum(packets.originals[rows], stops - starts)
    headers = Headers(rows, begins, kinds, stops, wires, np.zeros(len(rows), np.intp))
    found: list[Headers] = []
    for _ in range(DEPTH_MAX):
        inside = _inside(memory, headers, tunnels)
        if not inside:
            break
        headers = _joined(inside)
        found.append(headers)
        headers = headers.only(headers.tunnels > 0)
    if not found:
        return None
    depths = np.zeros(len(packets), np.intp)
    for depth, headers in enumerate(found):
        depths[headers.rows] = depth
    return _joined([headers.only(depths[headers.rows] == depth) for depth, headers in enumerate(found)])


def _joined(parts: list[Headers]) -> Headers:
    return Headers(*(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Headers)))


def _past_tags(memory: Memory, at: Index) -> tuple[Index, I64]:
    """What follows the EtherType that is behind the tags of an Ethernet header, and that EtherType."""
    at = at + ETHERNET_LEN
    kinds = memory.read(at - 2, ">u2")
    for _ in range(_TAGS_MAX):
        tagged = np.flatnonzero(_IS_TAG[kinds])
        if not len(tagged):
            break
        at[tagged] += 4
        kinds[tagged] = memory.read(at[tagged] - 2, ">u2")
    return at, kinds


def _candidates(memory: Memory, at: Index, ethernet: Bool) -> Index:
    """Rows that a few bytes do not rule out."""
    if ethernet.all():
        at, kinds = _past_tags(memory, at)
        is_ipv6 = kinds == IPV6
    else:
        behind, kinds = _past_tags(memory, at)
        at = np.where(ethernet, behind, at)
        is_ipv6 = np.where(ethernet, kinds == IPV6, memory.read(at, "u1") >> 4 == 6)
    protocols = memory.read(at + np.where(is_ipv6, 6, 9), "u1")
    rows = np.flatnonzero(_MAY_HOLD[protocols])
    if not len(rows):
        return rows
    at, is_ipv6, is_udp = at[rows], is_ipv6[rows], protocols[rows] == _UDP
    lengths = np.where(is_ipv6, 40, (memory.read(at, "u1") & 15) * 4)
    found: Index = rows[~is_udp | _IS_PORT[memory.read(at + lengths + 2, ">u2")]]
    return found


class _Packets(NamedTuple):
    """IP packets that are whole: where their payload begins and ends, and what it is."""

    headers: Headers
    is_ipv6: Bool
    at: Index
    ends: Index
    protocols: I64

    def rows_of(self, protocol: int, length: int) -> Index:
        """Those of a protocol with so many bytes captured of it."""
        return np.flatnonzero((self.protocols == protocol) & (self.at + length <= self.ends))


class _Layer(NamedTuple):
    """Tunnel headers: in which packets, what they hold and where that begins. `ids`: -1 where there is none."""

    kind: Kind
    rows: Index
    at: Index
    inner: I64
    ids: I64


def _inside(memory: Memory, headers: Headers, tunnels: Tunnels) -> list[Headers]:
    """What is one tunnel further in; nothing where there is no tunnel, or none that can be read."""
    outer = _ip_packets(memory, headers)
    layers = [
        *(_ipip(outer, protocol, inner) for protocol, inner in _IN_IP.items()),
        _gre(memory, outer),
        _vxlan(memory, outer),
        _geneve(memory, outer),
    ]
    return [_entered(memory, outer, one, tunnels) for one in layers if len(one.rows)]


def _ip_packets(memory: Memory, headers: Headers) -> _Packets:
    ethernet = np.flatnonzero(headers.kinds == BRIDGED)
    if len(ethernet):
        headers.at[ethernet], headers.kinds[ethernet] = _past_tags(memory, headers.at[ethernet])
    headers = headers.only(((headers.kinds == _IPV4) | (headers.kinds == IPV6)) & (headers.at + 20 <= headers.stops))
    at, is_ipv6 = headers.at, headers.kinds == IPV6
    first = memory.read(at, "u1")
    lengths = np.where(is_ipv6, 40, (first & 15) * 4)
    totals = np.where(is_ipv6, memory.read(at + 4, ">u2") + 40, memory.read(at + 2, ">u2"))
    # BIG TCP: the length does not fit the field
    wires = np.where(totals == np.where(is_ipv6, 40, 0), headers.wires, at + totals)
    ends = np.minimum(headers.stops, wires)
    keep = (
        (first >> 4 == np.where(is_ipv6, 6, 4)) & (lengths >= 20) & (wires <= headers.wires) & (at + lengths <= ends)
        & (is_ipv6 | (memory.read(at + 6, ">u2") & _IPV4_IS_FRAGMENT == 0))
    )  # fmt: skip
    headers, is_ipv6, ends = headers.only(keep), is_ipv6[keep], ends[keep]
    headers.wires = wires[keep]
    protocols = memory.read(headers.at + np.where(is_ipv6, 6, 9), "u1")
    payload = headers.at + lengths[keep]
    _skip_extensions(memory, payload, ends, protocols, is_ipv6)
    return _Packets(headers, is_ipv6, payload, ends, protocols)


def _skip_extensions(memory: Memory, at: Index, ends: Index, protocols: I64, is_ipv6: Bool) -> None:
    """Step over IPv6 extension headers, except that of a fragment."""
    for _ in range(_EXTENSIONS_MAX):
        rows = np.flatnonzero(is_ipv6 & _IS_EXTENSION[protocols] & (at + 8 <= ends))
        here, kinds = at[rows], protocols[rows]
        keep = (kinds != _FRAGMENT) | (memory.read(here + 2, ">u2") & _IPV6_IS_FRAGMENT == 0)
        rows, here, kinds = rows[keep], here[keep], kinds[keep]
        if not len(rows):
            return
        units = memory.read(here + 1, "u1")
        lengths = np.where(kinds == _AUTHENTICATION, (units + 2) * 4, (units + 1) * 8)
        at[rows] = here + np.where(kinds == _FRAGMENT, 8, lengths)
        protocols[rows] = memory.read(here, "u1")


def _ipip(outer: _Packets, protocol: int, inner: int) -> _Layer:
    rows = outer.rows_of(protocol, 0)
    return _Layer(Kind.IPIP, rows, outer.at[rows], np.full(len(rows), inner), np.full(len(rows), -1))


def _gre(memory: Memory, outer: _Packets) -> _Layer:
    """As Linux: version 0, and no routing, which RFC 2784 took away."""
    rows = outer.rows_of(_GRE, 4)
    flags = memory.read(outer.at[rows], ">u2")
    rows, flags = rows[flags & 0x4007 == 0], flags[flags & 0x4007 == 0]
    at = outer.at[rows]
    checksums, keys, sequences = (np.where(flags & bit, 4, 0) for bit in (0x8000, 0x2000, 0x1000))
    ids = np.where(keys > 0, memory.read(at + 4 + checksums, ">u4"), -1)
    return _Layer(Kind.GRE, rows, at + 4 + checksums + keys + sequences, memory.read(at + 2, ">u2"), ids)


def _vxlan(memory: Memory, outer: _Packets) -> _Layer:
    """With the I bit. Where the P bit of VXLAN-GPE is set too, a number says what is inside; no control packets."""
    rows = outer.rows_of(_UDP, 16)
    at = outer.at[rows]
    ports, flags = memory.read(at + 2, ">u2"), memory.read(at + 8, "u1")
    keep = ((ports == _VXLAN_PORTS[0]) | (ports == _VXLAN_PORTS[1])) & (flags & 0x09 == 0x08)
    keep &= memory.read(at + 15, "u1") == 0
    rows, at, flags = rows[keep], at[keep], flags[keep]
    inner = np.where(flags & 0x04, _GPE_INNER[memory.read(at + 11, "u1")], BRIDGED)
    return _Layer(Kind.VXLAN, rows, at + 16, inner, memory.read(at + 12, ">u4") >> 8)


def _geneve(memory: Memory, outer: _Packets) -> _Layer:
    """Of version 0, with any options; no control packets."""
    rows = outer.rows_of(_UDP, 16)
    at = outer.at[rows]
    first, second = memory.read(at + 8, "u1"), memory.read(at + 9, "u1")
    keep = (memory.read(at + 2, ">u2") == _GENEVE_PORT) & (first >> 6 == 0) & (second & 0x80 == 0)
    rows, at, first = rows[keep], at[keep], first[keep]
    begins = at + 16 + (first & 63) * 4
    return _Layer(Kind.GENEVE, rows, begins, memory.read(at + 10, ">u2"), memory.read(at + 12, ">u4") >> 8)


def _entered(memory: Memory, outer: _Packets, layer: _Layer, tunnels: Tunnels) -> Headers:
    """What is in tunnels of one kind, where it can be IP or Ethernet and enough was captured to be looked at."""
    is_ipv6, is_ethernet = layer.inner == IPV6, layer.inner == BRIDGED
    versions = memory.read(layer.at, "u1") >> 4
    keep = is_ethernet | (versions == np.where(is_ipv6, 6, 4)) & (is_ipv6 | (layer.inner == _IPV4))
    keep &= layer.at + np.where(is_ethernet, ETHERNET_LEN, 0) < outer.ends[layer.rows]
    rows, at, ids = layer.rows[keep], layer.at[keep], layer.ids[keep]
    headers = outer.headers.only(rows)
    keys = np.zeros(len(rows), KEY)
    keys["around"], keys["kind"], keys["id"] = headers.tunnels, layer.kind, ids
    if layer.kind in (Kind.GRE, Kind.IPIP):
        for mask, offset, size in ((outer.is_ipv6[rows], 8, 16), (~outer.is_ipv6[rows], 12, 4)):
            begins = headers.at[mask]
            for name, place in (("src", offset), ("dst", offset + size)):
                keys[name][np.flatnonzero(mask), :size] = memory.bytes[begins[:, np.newaxis] + place + np.arange(size)]
    headers.at, headers.kinds = at, layer.inner[keep]
    headers.tunnels = np.array(tunnels.numbers(keys.view(f"V{KEY.itemsize}").tolist()), np.intp)
    return headers
