"""Connections of two hosts step by step: as segments for the judge of scripts/fidelity, and as packets of a capture."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scripts.fidelity.segments import ACK, FIN, RST, SYN, Segment
from tests.support.captures import START_NS, Packet
from tests.support.packets import address, ipv4, option, padded, tcp_header

CLIENT, SERVER, ROUTER = "192.0.2.1", "198.51.100.1", "203.0.113.9"
PORT = 443
ISN, SERVER_ISN = 5000, 9_000_000
COOKIE = bytes.fromhex("0123456789abcdef")


@dataclass(frozen=True)
class Step:
    """One segment. `icmp`: a router's error that quotes it."""

    at_ms: float
    from_client: bool
    flags: int
    seq: int
    ack: int = 0
    length: int = 0
    options: bytes = b""
    ident: int = 0
    vlan: tuple[int, ...] = ()
    icmp: tuple[int, int] | None = None
    surplus: int = 0  # what the IP header claims beyond the packet


def offers(ts_val: int | None = 1000, ts_ecr: int = 0, cookie: bytes | None = None) -> bytes:
    """The options of a SYN or SYN-ACK. `cookie`: None without Fast Open, empty for a request."""
    found = option(2, b"\x05\xb4") + option(4)
    if ts_val is not None:
        found += option(8, struct.pack("!II", ts_val, ts_ecr))
    if cookie is not None:
        found += option(34, cookie)
    return padded(found)


def stamps(ts_val: int, ts_ecr: int) -> bytes:
    """The options of an ordinary segment."""
    return b"\x01\x01" + option(8, struct.pack("!II", ts_val, ts_ecr))


# --- the usual segments; `seq` and `ack` are offsets from the ISNs ---


def syn(at_ms: float, length: int = 0, options: bytes | None = None, isn: int = ISN) -> Step:
    """The client's SYN."""
    return Step(at_ms, True, SYN, isn, 0, length, offers(1000 + int(at_ms)) if options is None else options)


def synack(at_ms: float, acked: int = 0, options: bytes | None = None, isn: int = SERVER_ISN, flags: int = 0) -> Step:
    """The server's SYN-ACK of the first SYN."""
    found = offers(77, 1000) if options is None else options
    return Step(at_ms, False, SYN | ACK | flags, isn, ISN + 1 + acked, 0, found)


def client(at_ms: float, length: int = 0, seq: int = 0, ack: int = 0, flags: int = 0, isn: int = SERVER_ISN) -> Step:
    """A later segment of the client."""
    return Step(at_ms, True, ACK | flags, ISN + 1 + seq, isn + 1 + ack, length, stamps(1100, 77))


def server(at_ms: float, length: int = 0, seq: int = 0, ack: int = 0, flags: int = 0, isn: int = SERVER_ISN) -> Step:
    """A later segment of the server."""
    return Step(at_ms, False, ACK | flags, isn + 1 + seq, ISN + 1 + ack, length, stamps(177, 1100))


def reset(at_ms: float, from_client: bool, seq: int, ack: int | None = None) -> Step:
    """A RST, with an acknowledgment or without."""
    return Step(at_ms, from_client, RST if ack is None else RST | ACK, seq, ack or 0)


def opened(length: int = 0, acked: int | None = None) -> list[Step]:
    """A handshake that took 20 ms, with Fast Open where there is data; its ACK came 0.1 ms later."""
    cookie = COOKIE if length else None
    taken = length if acked is None else acked
    return [syn(0, length, offers(1000, 0, cookie)), synack(20, taken), client(20.1, seq=taken)]


def mirrored(steps: Sequence[Step], after_us: float = 3) -> list[Step]:
    """Each step twice, as a mirror port sends them."""
    return [each for one in steps for each in (one, replace(one, at_ms=one.at_ms + after_us / 1000))]


def tagged(steps: Sequence[Step], there: int, back: int) -> list[Step]:
    """With a VLAN tag for each direction."""
    return [replace(one, vlan=(there if one.from_client else back,)) for one in steps]


# --- what becomes of them ---


def segments(steps: Sequence[Step], port: int = 40000) -> list[Segment]:
    """As tshark would decode them."""
    found = []
    for number, one in enumerate(sorted(steps, key=lambda each: each.at_ms), 1):
        ends = ((CLIENT, port), (SERVER, PORT))
        there, back = ends if one.from_client else ends[::-1]
        found.append(
            Segment(
                number, START_NS + round(one.at_ms * 1e6), there, back, one.seq % 2**32, one.ack % 2**32, one.flags,
                one.length, 64240, 64, one.ident, one.vlan, (), one.options, True, one.icmp,
            )
        )  # fmt: skip
    return found


def packets(steps: Sequence[Step], port: int = 40000) -> list[Packet]:
    """As they were on the wire."""
    found = []
    for one in sorted(steps, key=lambda each: each.at_ms):
        ends = ((CLIENT, port), (SERVER, PORT))
        (source, sport), (target, dport) = ends if one.from_client else ends[::-1]
        tcp = tcp_header(sport, dport, one.seq % 2**32, one.ack % 2**32, one.flags, options=one.options)
        ip = ipv4(address(source), address(target), tcp + b"x" * one.length, ident=one.ident)
        if one.surplus:
            ip = ip[:2] + (len(ip) + one.surplus).to_bytes(2, "big") + ip[4:]
        if one.icmp is not None:
            error = bytes(one.icmp) + bytes(6) + ip[:28]
            ip = ipv4(address(ROUTER), address(source), error, protocol=1)
        found.append(Packet(START_NS + round(one.at_ms * 1e6), ip, one.vlan))
    return found


__all__ = ["ACK", "FIN", "RST", "SYN"]
