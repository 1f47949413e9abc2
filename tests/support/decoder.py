"""An independent decoder of frames, written from the RFCs and TFO.md, not from the C code.

Plain Python decides the structure (which header follows, what is malformed), since scapy dissects nearly anything;
scapy then reads the fields of each valid header. Counters are named as in tracer/bpf/event.h. `decode` gives the effect
of a frame on the counters, and the content of its TCP header.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import Dot1Q, Ether

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR, AE = (1 << bit for bit in range(9))

TAG_ETHERTYPES = {0x8100, 0x88A8, 0x9100}
TAGS_MAX = 2
EXTENSIONS_MAX = 6
# IPv6 extension headers of the IANA registry with the uniform layout of RFC 6564; AH and fragment have their own.
UNIFORM_EXTENSIONS = {0, 43, 60, 135, 139, 140}
FRAGMENT, AUTHENTICATION = 44, 51
PROTOCOL_TCP, PROTOCOL_UDP = 6, 17

# What may hold handshakes that are not read -> its counter less `not_read_` (IANA's registries; SGT is Cisco's).
CARRYING_ETHERTYPES = {
    **dict.fromkeys(TAG_ETHERTYPES, "vlan"),
    0x8847: "mpls",
    0x8848: "mpls",
    0x8864: "pppoe",
    0x8909: "sgt",
}
CARRYING_PROTOCOLS = {4: "ipip", 41: "ipip", 47: "gre"}
CARRYING_PORTS = {4789: "vxlan", 8472: "vxlan", 6081: "geneve", 2152: "gtp"}

# Option kind -> the sizes it may have, header included (RFC 9293, 7323, 2018, 2385, 5925, 8684).
OPTION_SIZES = {2: {4}, 3: {3}, 4: {2}, 8: {10}, 19: {18}, 29: set(range(4, 41)), 30: set(range(3, 41))}
TFO_COOKIE_SIZES = {0, 4, 6, 8, 10, 12, 14, 16}
TFO_MAGIC = b"\xf9\x89"


@dataclass(slots=True)
class Options:
    """What the TCP options say. `None` is absent."""

    mss: int | None = None
    wscale: int | None = None
    sack: bool = False
    ts_val: int | None = None
    ts_ecr: int | None = None
    ts_at: int | None = None
    tfo_kind: int | None = None
    tfo_cookie: bytes = b""
    tfo_at: int | None = None
    tfo_malformed: bool = False
    mptcp: bool = False
    md5: bool = False
    ao: bool = False
    unfinished: bool = False
    counters: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Segment:
    """A TCP segment in host byte order; addresses are 16 bytes, IPv4 mapped (RFC 4291, 2.5.5.2)."""

    family: int
    src: bytes
    dst: bytes
    sport: int
    dport: int
    vlans: tuple[int, ...]
    seq: int
    ack: int
    flags: int
    window: int
    payload: bytes
    ttl: int
    tos: int
    extra: int
    dont_fragment: bool
    ip_id: bool
    ip_reserved: bool
    flow_label: bool
    urgent_pointer: bool
    option_bytes: bytes
    options: Options

    @property
    def is_syn(self) -> bool:
        """A SYN that is not a SYN-ACK."""
        return self.flags & (SYN | ACK) == SYN

    @property
    def is_synack(self) -> bool:
        """A SYN-ACK."""
        return self.flags & (SYN | ACK) == SYN | ACK


@dataclass(slots=True)
class Verdict:
    """Counters that rise by one besides `packets`, and the segment if it must be followed."""

    counters: set[str] = field(default_factory=set)
    segment: Segment | None = None


@dataclass(slots=True)
class _Network:
    """What the IP header said."""

    family: int
    src: bytes
    dst: bytes
    ttl: int
    tos: int
    extra: int
    protocol: int
    payload: bytes
    fragment: bool = False
    dont_fragment: bool = False
    ip_id: bool = False
    ip_reserved: bool = False
    flow_label: bool = False


class _Malformed(Exception):
    """Carries the name of the counter."""


def walk_options(data: bytes) -> Options:
    """RFC 9293, 3.1: kinds 0 and 1 are single bytes, all others have a length that counts both header bytes."""
    found = Options()
    at = 0
    while at < len(data) and data[at] != 0:
        kind = data[at]
        if kind == 1:
            at += 1
            continue
        problem = ""
        if at + 1 == len(data):
            problem = "malformed_option_cut"
        elif data[at + 1] < 2:
            problem = "malformed_option_length"
        elif at + data[at + 1] > len(data):
            problem = "malformed_option_overrun"
        if problem:
            found.counters.add(problem)
            found.unfinished = True
            break
        size = data[at + 1]
        _take_option(found, kind, data[at + 2 : at + size], at + 2)
        at += size
    return found


def _take_option(found: Options, kind: int, value: bytes, at: int) -> None:
    if kind in OPTION_SIZES and len(value) + 2 not in OPTION_SIZES[kind]:
        found.counters.add("malformed_option_size")
    elif kind == 2:
        found.mss = int.from_bytes(value, "big")
    elif kind == 3:
        found.wscale = value[0]
    elif kind == 4:
        found.sack = True
    elif kind == 8:
        found.ts_val = int.from_bytes(value[:4], "big")
        found.ts_ecr = int.from_bytes(value[4:], "big")
        found.ts_at = at
    elif kind == 19:
        found.md5 = True
    elif kind == 29:
        found.ao = True
    elif kind == 30:
        found.mptcp = True
    elif kind == 34:
        _take_cookie(found, kind, value, at)
    elif kind in (253, 254) and value[:2] == TFO_MAGIC:
        _take_cookie(found, kind, value[2:], at + 2)


def _take_cookie(found: Options, kind: int, cookie: bytes, at: int) -> None:
    """RFC 7413, 4.1.1; TFO.md section 1: an invalid option counts as absent; of several, the last one counts."""
    if len(cookie) not in TFO_COOKIE_SIZES:
        found.tfo_malformed = True
        found.counters.add("tfo_malformed")
        return
    found.tfo_kind, found.tfo_cookie, found.tfo_at = kind, cookie, at


def _link(frame: bytes) -> tuple[int, tuple[int, ...], bytes]:
    """Ethertype, VLAN ids without priority tags, and the rest. More than two tags are not supported."""
    if len(frame) < 14:
        raise _Malformed("malformed_ethernet")
    ether = Ether(frame[:14])
    # Below 1536 the field is a length: scapy makes that frame a Dot3 (IEEE 802.3, 3.2.6).
    kind: int = ether.type if isinstance(ether, Ether) else 0
    rest = frame[14:]
    vlans = []
    for _ in range(TAGS_MAX):
        if kind not in TAG_ETHERTYPES:
            break
        if len(rest) < 4:
            raise _Malformed("malformed_ethernet")
        tag = Dot1Q(rest[:4])
        if tag.vlan:
            vlans.append(tag.vlan)
        kind = tag.type
        rest = rest[4:]
    return kind, tuple(vlans), rest


def _ipv4(packet: bytes) -> _Network:
    """RFC 791, 3.1."""
    if len(packet) < 20 or packet[0] >> 4 != 4 or packet[0] & 15 < 5:
        raise _Malformed("malformed_ip_header")
    ip = IP(packet[:20])
    header = ip.ihl * 4
    if not header <= ip.len <= len(packet):
        raise _Malformed("malformed_ip_length")
    return _Network(
        family=4,
        src=bytes(10) + b"\xff\xff" + socket.inet_aton(ip.src),
        dst=bytes(10) + b"\xff\xff" + socket.inet_aton(ip.dst),
        ttl=ip.ttl,
        tos=ip.tos,
        extra=header - 20,
        protocol=ip.proto,
        payload=packet[header : ip.len],
        fragment=ip.frag > 0,
        dont_fragment=bool(ip.flags.DF),
        ip_id=ip.id != 0,
        ip_reserved=bool(ip.flags.evil),
    )


def _ipv6(packet: bytes) -> _Network:
    """RFC 8200, sections 3 and 4; AH: RFC 4302, 2.2 (length in words, less two)."""
    if len(packet) < 40 or packet[0] >> 4 != 6:
        raise _Malformed("malformed_ip_header")
    ip = IPv6(packet[:40])
    if 40 + ip.plen > len(packet):
        raise _Malformed("malformed_ip_length")
    rest = packet[40 : 40 + ip.plen]
    network = _Network(
        family=6,
        src=socket.inet_pton(socket.AF_INET6, ip.src),
        dst=socket.inet_pton(socket.AF_INET6, ip.dst),
        ttl=ip.hlim,
        tos=ip.tc,
        extra=0,
        protocol=ip.nh,
        payload=b"",
        flow_label=ip.fl != 0,
    )
    steps = 0
    while network.protocol in UNIFORM_EXTENSIONS or network.protocol in (FRAGMENT, AUTHENTICATION):
        steps += 1
        if steps > EXTENSIONS_MAX or len(rest) < 8:
            raise _Malformed("malformed_ip_extension")
        size = 8 * (rest[1] + 1)
        if network.protocol == FRAGMENT:
            size = 8
            network.fragment = IPv6ExtHdrFragment(rest[:8]).offset > 0
        elif network.protocol == AUTHENTICATION:
            size = 4 * (rest[1] + 2)
        if size > len(rest):
            raise _Malformed("malformed_ip_extension")
        network.protocol = rest[0]
        if network.fragment:
            break
        network.extra += size
        rest = rest[size:]
    network.payload = rest
    return network


def _tcp(network: _Network, vlans: tuple[int, ...]) -> Segment:
    """RFC 9293, 3.1."""
    data = network.payload
    if len(data) < 20 or data[12] >> 4 < 5:
        raise _Malformed("malformed_tcp_header")
    tcp = TCP(data[:20])
    header = tcp.dataofs * 4
    if header > len(data):
        raise _Malformed("malformed_tcp_offset")
    flags = int(tcp.flags) | tcp.reserved << 9
    if flags & SYN and (flags & RST or flags & (FIN | ACK) == FIN):  # Linux takes a SYN-ACK with FIN
        raise _Malformed("malformed_tcp_flags")
    return Segment(
        family=network.family,
        src=network.src,
        dst=network.dst,
        sport=tcp.sport,
        dport=tcp.dport,
        vlans=vlans,
        seq=tcp.seq,
        ack=tcp.ack,
        flags=flags,
        window=tcp.window,
        payload=data[header:],
        ttl=network.ttl,
        tos=network.tos,
        extra=network.extra,
        dont_fragment=network.dont_fragment,
        ip_id=network.ip_id,
        ip_reserved=network.ip_reserved,
        flow_label=network.flow_label,
        urgent_pointer=tcp.urgptr != 0,
        option_bytes=data[20:header],
        options=walk_options(data[20:header]),
    )


def _kind_inside_ip(network: _Network) -> str | None:
    if network.protocol != PROTOCOL_UDP:
        return CARRYING_PROTOCOLS.get(network.protocol)
    if len(network.payload) < 8:  # RFC 768
        return None
    return CARRYING_PORTS.get(int.from_bytes(network.payload[2:4], "big"))


def _carrier(kind: str | None) -> Verdict:
    return Verdict({f"not_read_{kind}" if kind else "not_tcp"})


def decode(frame: bytes, *, no_link_header: bool = False) -> Verdict:
    """What one whole frame says."""
    vlans: tuple[int, ...] = ()
    try:
        if no_link_header:
            packet = frame
            kind = {4: 0x0800, 6: 0x86DD}.get(frame[0] >> 4, 0)
        else:
            kind, vlans, packet = _link(frame)
        if kind not in (0x0800, 0x86DD):
            return _carrier(CARRYING_ETHERTYPES.get(kind))
        network = _ipv4(packet) if kind == 0x0800 else _ipv6(packet)
        if network.protocol != PROTOCOL_TCP:
            return _carrier(None if network.fragment else _kind_inside_ip(network))
        if network.fragment:
            return Verdict({"fragments"})
        segment = _tcp(network, vlans)
    except _Malformed as problem:
        return Verdict({str(problem)})
    return Verdict(set(segment.options.counters) if segment.flags & SYN else set(), segment)


def handshake_id(client: bytes, server: bytes, client_port: int, server_port: int, isn: int) -> int:
    """The id as flow.h documents it: six little-endian words, each xored in, multiplied, folded."""
    words = [int.from_bytes(address[at : at + 8], "little") for address in (client, server) for at in (0, 8)]
    value = 0x9E3779B97F4A7C15
    for word in [*words, client_port << 16 | server_port, isn]:
        value = (value ^ word) * 0xFF51AFD7ED558CCD & 0xFFFFFFFFFFFFFFFF
        value ^= value >> 32
    return value
