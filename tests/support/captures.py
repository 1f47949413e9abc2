"""Captures written byte by byte: pcap and pcapng in both byte orders, with every supported link type."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.packets import Flow, address, option, padded, tcp_header

EN10MB, RAW, NULL, LOOP, SLL, SLL2, IPV4, IPV6 = 1, 101, 0, 108, 113, 276, 228, 229
SYN, ACK, PUSH, FIN, RST = 0x02, 0x10, 0x08, 0x01, 0x04
START_NS = 1_700_000_000_123_456_789
COOKIE = bytes.fromhex("0123456789abcdef")
REQUEST = b"GET / HTTP/1.1\r\nHost: www.example.org\r\n\r\n"
OPTIONS = option(2, b"\x05\xb4") + option(4) + option(8, bytes(7) + b"\x01" + bytes(4)) + b"\x01" + option(3, b"\x07")
CLIENT_ISN, SERVER_ISN = 1_000_000, 4_000_000_000


@dataclass(frozen=True)
class Packet:
    """One packet: an IP packet with the VLAN ids before it, when, and which way it went."""

    at_ns: int
    ip: bytes
    vlans: tuple[int, ...] = ()
    outgoing: bool = False
    interface: int = 0


def handshake(
    version: int = 4,
    *,
    at_ns: int = START_NS,
    port: int = 40000,
    vlans: tuple[int, ...] = (),
    cookie: bytes | None = COOKIE,
    data: bytes = REQUEST,
    accepted: bool = True,
) -> list[Packet]:
    """A Fast Open handshake as the client's host sees it: SYN-ACK after 10 ms, ACK 50 us later, answer after 30 ms."""
    client, server = ("192.0.2.1", "192.0.2.2") if version == 4 else ("2001:db8::1", "2001:db8::2")
    there = Flow(address(client), address(server), port, 80)
    back = there.back
    options = OPTIONS if cookie is None else padded(OPTIONS + option(34, cookie))
    acked = CLIENT_ISN + 1 + (len(data) if accepted else 0)
    ms = 1_000_000

    def packet(after_ns: int, flow: Flow, flags: int, seq: int, ack: int, options: bytes, data: bytes) -> Packet:
        tcp = tcp_header(flow.sport, flow.dport, seq, ack, flags, options=options) + data
        return Packet(at_ns + after_ns, flow.packet(tcp), vlans, flow is there)

    return [
        packet(0, there, SYN, CLIENT_ISN, 0, options, data),
        packet(10 * ms, back, SYN | ACK, SERVER_ISN, acked, OPTIONS, b""),
        packet(10 * ms + 50_000, there, ACK, acked, SERVER_ISN + 1, b"", b""),
        packet(30 * ms, back, ACK | PUSH, SERVER_ISN + 1, acked, b"", b"HTTP/1.1 200 OK\r\n\r\n"),
    ]


def framed(link: int, packet: Packet) -> bytes:
    """The packet with the header of a link type."""
    is_v4 = packet.ip[0] >> 4 == 4
    kind = 0x0800 if is_v4 else 0x86DD
    tags = b""
    for vlan in reversed(packet.vlans):
        tags = struct.pack("!HH", vlan, kind) + tags
        kind = 0x8100
    body = tags + packet.ip
    if link == EN10MB:
        return bytes(12) + struct.pack("!H", kind) + body
    if link in (RAW, IPV4, IPV6):
        return packet.ip
    if link == NULL:
        return struct.pack("=I", 2 if is_v4 else 10) + packet.ip
    if link == LOOP:
        return struct.pack("!I", 2 if is_v4 else 24) + packet.ip
    direction = 4 if packet.outgoing else 0
    if link == SLL:
        return struct.pack("!HHH8sH", direction, 1, 6, bytes(8), kind) + body
    assert link == SLL2
    return struct.pack("!HHIHBB8s", kind, 0, packet.interface, 1, direction, 6, bytes(8)) + body


def pcap(link: int, packets: Sequence[Packet], *, nano: bool = False, order: str = "<", snaplen: int = 262144) -> bytes:
    """A pcap file, micro- or nanosecond times."""
    found = [struct.pack(f"{order}IHHiIII", 0xA1B23C4D if nano else 0xA1B2C3D4, 2, 4, 0, 0, snaplen, link)]
    for packet in packets:
        frame = framed(link, packet)
        seconds, rest = divmod(packet.at_ns, 1_000_000_000)
        part = rest if nano else rest // 1000
        found.append(struct.pack(f"{order}IIII", seconds, part, min(len(frame), snaplen), len(frame)))
        found.append(frame[:snaplen])
    return b"".join(found)


def _block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(f"{order}I", len(body) + 12)
    return struct.pack(f"{order}I", kind) + length + body + length


def _option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(f"{order}HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order: str = "<") -> bytes:
    """A section header block."""
    return _block(order, 0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(
    link: int, name: str | None = None, order: str = "<", *, snaplen: int = 262144, resolution: int | None = 9,
    offset_s: int | None = None,
) -> bytes:  # fmt: skip
    """An interface description block, nanosecond times unless it says otherwise."""
    options = b"" if name is None else _option(order, 2, name.encode())
    options += b"" if resolution is None else _option(order, 9, bytes([resolution]))
    options += b"" if offset_s is None else _option(order, 14, struct.pack(f"{order}q", offset_s))
    return _block(order, 1, struct.pack(f"{order}HHI", link, 0, snaplen) + options + _option(order, 0, b""))


def simple(link: int, packet: Packet, order: str = "<", *, snaplen: int = 262144) -> bytes:
    """A simple packet block: of the first interface, and without a time."""
    whole = framed(link, packet)
    return _block(order, 3, struct.pack(f"{order}I", len(whole)) + whole[:snaplen])


def obsolete(link: int, packet: Packet, order: str = "<", *, snaplen: int = 262144) -> bytes:
    """A packet block as before 2012."""
    whole = framed(link, packet)
    frame, ticks = whole[:snaplen], packet.at_ns
    head = struct.pack(
        f"{order}HHIIII", packet.interface, 0, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(whole)
    )  # fmt: skip
    return _block(order, 2, head + frame)


def enhanced(
    link: int, packet: Packet, order: str = "<", *, flags: bool = True, snaplen: int = 262144, ticks: int | None = None
) -> bytes:
    """An enhanced packet block, with direction flags and a comment; `ticks`: its time as its interface counts."""
    whole = framed(link, packet)
    frame = whole[:snaplen]
    ticks = packet.at_ns if ticks is None else ticks
    head = struct.pack(f"{order}IIIII", packet.interface, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(whole))
    options = _option(order, 1, b"a comment") if flags else b""
    if flags:
        options += _option(order, 2, struct.pack(f"{order}I", 2 if packet.outgoing else 1)) + _option(order, 0, b"")
    return _block(order, 6, head + frame + bytes(-len(frame) % 4) + options)


def pcapng(
    link: int,
    packets: Sequence[Packet],
    names: Sequence[str | None] = ("eth7",),
    order: str = "<",
    *,
    snaplen: int = 262144,
) -> bytes:
    """A pcapng file of one section, with packets from the interfaces of these names."""
    blocks = [section(order), *(interface(link, name, order) for name in names)]
    return b"".join([*blocks, *(enhanced(link, packet, order, snaplen=snaplen) for packet in packets)])
