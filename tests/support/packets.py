"""Frames for tests: a plain builder, and a seeded maker of valid and damaged SYNs and SYN-ACKs.

Checksums are 0: an observer of packets does not verify them.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from .decoder import (
    ACK,
    AUTHENTICATION,
    CARRYING_ETHERTYPES,
    CARRYING_PORTS,
    CARRYING_PROTOCOLS,
    FIN,
    FRAGMENT,
    PROTOCOL_UDP,
    RST,
    SYN,
    TAG_ETHERTYPES,
    UNIFORM_EXTENSIONS,
)

MACS = bytes.fromhex("020000000002020000000001")
MAPPED = bytes(10) + b"\xff\xff"
HEADERS_LEN = 120  # bytes in which a damaged one is likely to matter


def address(text: str) -> bytes:
    """Sixteen bytes of an IPv4 or IPv6 address, IPv4 mapped."""
    import ipaddress

    packed = ipaddress.ip_address(text).packed
    return packed if len(packed) == 16 else MAPPED + packed


def option(kind: int, value: bytes = b"") -> bytes:
    """A TCP option with its right length."""
    return bytes([kind, len(value) + 2]) + value


def padded(options: bytes, fill: bytes = b"\x01") -> bytes:
    """Filled up to whole words."""
    return options + fill * (-len(options) % 4)


def tcp_header(
    sport: int,
    dport: int,
    seq: int,
    ack: int,
    flags: int,
    *,
    window: int = 64240,
    urgent: int = 0,
    options: bytes = b"",
) -> bytes:
    """A TCP header with `options`, which are whole words, at most ten."""
    assert len(options) % 4 == 0
    assert len(options) <= 40
    offset_flags = (5 + len(options) // 4) << 12 | flags
    ports = struct.pack("!HHII", sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF)
    return ports + struct.pack("!HHHH", offset_flags, window, 0, urgent) + options


def ipv4(
    src: bytes,
    dst: bytes,
    payload: bytes,
    *,
    protocol: int = 6,
    options: bytes = b"",
    ttl: int = 64,
    tos: int = 0,
    ident: int = 0,
    fragment: int = 0x4000,
) -> bytes:
    """An IPv4 packet; `fragment` is the 16-bit field of flags and offset."""
    header = struct.pack(
        "!BBHHHBBH",
        4 << 4 | (5 + len(options) // 4),
        tos,
        20 + len(options) + len(payload),
        ident,
        fragment,
        ttl,
        protocol,
        0,
    )
    return header + src[12:] + dst[12:] + options + payload


def ipv6(
    src: bytes,
    dst: bytes,
    payload: bytes,
    *,
    protocol: int = 6,
    extensions: Sequence[tuple[int, bytes]] = (),
    hops: int = 64,
    traffic_class: int = 0,
    flow: int = 0,
) -> bytes:
    """An IPv6 packet; each extension is its type and its bytes, of which the first (next header) is filled in here."""
    kinds = [kind for kind, _ in extensions] + [protocol]
    chain = b"".join(bytes([kinds[i + 1]]) + body[1:] for i, (_, body) in enumerate(extensions))
    word = 6 << 28 | traffic_class << 20 | flow
    return struct.pack("!IHBB", word, len(chain) + len(payload), kinds[0], hops) + src + dst + chain + payload


def udp(sport: int, dport: int, payload: bytes) -> bytes:
    """A UDP datagram."""
    return struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload


def ethernet(packet: bytes, vlans: Sequence[int | tuple[int, int]] = (), kind: int = 0) -> bytes:
    """A frame around an IP packet; a tag is a VLAN id, or an ethertype and a TCI.

    `kind`: the ethertype, if it is not that of IP.
    """
    tags = [tag if isinstance(tag, tuple) else (0x8100, tag) for tag in vlans]
    kind = kind or (0x0800 if packet[0] >> 4 == 4 else 0x86DD)
    return MACS + b"".join(struct.pack("!HH", *tag) for tag in tags) + kind.to_bytes(2, "big") + packet


@dataclass(frozen=True, slots=True)
class Flow:
    """One direction of a connection; addresses are 16 bytes."""

    src: bytes
    dst: bytes
    sport: int
    dport: int
    vlans: tuple[int | tuple[int, int], ...] = ()

    @property
    def back(self) -> Flow:
        """The other direction."""
        return Flow(self.dst, self.src, self.dport, self.sport, self.vlans)

    def packet(self, tcp: bytes) -> bytes:
        """An IP packet without link header."""
        return ipv4(self.src, self.dst, tcp) if self.is_ipv4 else ipv6(self.src, self.dst, tcp)

    @property
    def is_ipv4(self) -> bool:
        """Are both addresses mapped ones?"""
        return self.src.startswith(MAPPED) and self.dst.startswith(MAPPED)

    def frame(self, flags: int, seq: int, ack: int = 0, *, payload: bytes = b"", options: bytes = b"") -> bytes:
        """A plain TCP frame."""
        tcp = tcp_header(self.sport, self.dport, seq, ack, flags, options=options) + payload
        return ethernet(self.packet(tcp), self.vlans)


class Maker:
    """Endless frames from a seed: about half of them as the RFCs want them, the others damaged somewhere."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def frame(self) -> bytes:
        """The next frame: mostly SYNs and SYN-ACKs."""
        r = self._random
        flags = r.choice((SYN, SYN, SYN | ACK)) | (r.getrandbits(12) & 0xFE8 if r.random() < 0.2 else 0)
        if r.random() < 0.03:
            flags = r.choice((SYN | FIN, SYN | RST, SYN | ACK | FIN, SYN | ACK | RST, ACK, RST, FIN | ACK, 0))
        tcp = tcp_header(
            r.getrandbits(16),
            r.choice(sorted(CARRYING_PORTS)) if r.random() < 0.1 else r.getrandbits(16),
            r.getrandbits(32),
            r.getrandbits(32),
            flags,
            window=r.getrandbits(16),
            urgent=r.getrandbits(16) if r.random() < 0.05 else 0,
            options=self.options(),
        )
        payload = r.randbytes(r.choice((0, 0, 0, 1, 2, 16, 200, 517, r.randint(0, 1460), 1460)))
        packet = self._ipv4(tcp + payload) if r.random() < 0.5 else self._ipv6(tcp + payload)
        kind = r.choice(sorted(CARRYING_ETHERTYPES)) if r.random() < 0.01 else 0
        frame = ethernet(packet, self._tags(), kind)
        if r.random() < 0.1:
            frame += r.randbytes(r.randint(1, 46))  # a trailer: Ethernet pads to 60 bytes
        return self._damaged(frame) if r.random() < 0.5 else frame

    def options(self) -> bytes:
        """Up to 40 bytes of options: ordinary, odd or broken."""
        r = self._random
        if r.random() < 0.02:
            return b"\x01" * 40
        if r.random() < 0.04:
            return r.randbytes(r.randint(0, 10) * 4)
        made = b""
        for _ in range(r.randint(0, 6)):
            one = self._option()
            if len(made) + len(one) <= 40:
                made += one
        if r.random() < 0.1 and len(made) < 40:
            made += bytes([r.choice((2, 8, 34, 254, 77)), r.choice((0, 1, 41, 255))])[: 40 - len(made)]
        if len(made) % 4 and r.random() < 0.1:
            made += r.randbytes(-len(made) % 4)
        return padded(made, r.choice((b"\0", b"\x01")))[:40]

    def _option(self) -> bytes:
        r = self._random
        choice = r.randrange(15)
        if choice == 0:
            return option(2, r.randbytes(2))
        if choice == 1:
            return option(3, bytes([r.randint(0, 20)]))
        if choice == 2:
            return option(4)
        if choice == 3:
            return option(8, r.randbytes(8))
        if choice in (4, 5):
            return option(34, r.randbytes(r.choice((0, 4, 8, 16, r.randint(0, 18)))))
        if choice in (6, 7):
            magic = b"\xf9\x89" if r.random() < 0.8 else r.randbytes(2)
            return option(
                r.choice((253, 254)),
                (magic + r.randbytes(r.choice((0, 8, r.randint(0, 18)))))[r.choice((0,) * 9 + (2,)) :],
            )
        if choice == 8:
            return option(30, r.randbytes(r.randint(0, 10)))
        if choice == 9:
            return option(19, r.randbytes(16))
        if choice == 10:
            return option(29, r.randbytes(r.choice((0, 1, 2, 14))))
        if choice == 11:
            return option(r.choice((28, 69, 172, 174, 5, 99, 255)), r.randbytes(r.randint(0, 8)))
        if choice == 13:  # too short to hold the magic that follows it
            return r.choice((b"\xfe\x02\xf9\x89", b"\xfd\x03\xf9\x89"))
        if choice == 12:  # a known one of a size it should not have
            return option(r.choice((2, 3, 4, 8, 19)), r.randbytes(r.randint(0, 12)))
        return b"\x01" * r.randint(1, 3)

    def _tags(self) -> list[int | tuple[int, int]]:
        r = self._random
        count = r.choice((0, 0, 0, 0, 1, 1, 2, 3))
        return [(r.choice(sorted(TAG_ETHERTYPES)), r.choice((0, r.getrandbits(16), 0x2000))) for _ in range(count)]

    def _ipv4(self, payload: bytes) -> bytes:
        r = self._random
        return ipv4(
            MAPPED + r.randbytes(4),
            MAPPED + r.randbytes(4),
            payload,
            protocol=6 if r.random() < 0.96 else self._other_protocol(),
            options=r.randbytes(4 * r.randint(0, 10)) if r.random() < 0.15 else b"",
            ttl=r.getrandbits(8),
            tos=r.getrandbits(8),
            ident=r.getrandbits(16) if r.random() < 0.5 else 0,
            fragment=r.choice((0x4000, 0x4000, 0, 0x2000, 0x8000, 0xC000)) | (r.random() < 0.02) * r.randint(1, 0x1FFF),
        )

    def _ipv6(self, payload: bytes) -> bytes:
        r = self._random
        count = r.choice((0, 0, 0, 0, 1, 2, 3, 5, 6, 7))
        return ipv6(
            r.randbytes(16),
            r.randbytes(16),
            payload,
            protocol=6 if r.random() < 0.96 else self._other_protocol(),
            extensions=[self._extension() for _ in range(count)],
            hops=r.getrandbits(8),
            traffic_class=r.getrandbits(8),
            flow=r.getrandbits(20) if r.random() < 0.7 else 0,
        )

    def _other_protocol(self) -> int:
        r = self._random
        # the last ones are even: ICMP, which is odd, is another test
        return r.choice((PROTOCOL_UDP, PROTOCOL_UDP, *CARRYING_PROTOCOLS, 50, 59, r.randint(1, 127) << 1))

    def _extension(self) -> tuple[int, bytes]:
        r = self._random
        if r.random() < 0.2:
            offset = r.randint(1, 0x1FFF) if r.random() < 0.2 else 0
            return FRAGMENT, bytes(2) + (offset << 3 | r.getrandbits(3)).to_bytes(2, "big") + r.randbytes(4)
        if r.random() < 0.2:
            words = r.choice((0, 1, 4, 6))
            return AUTHENTICATION, bytes([0, words]) + r.randbytes(4 * (words + 2) - 2)
        units = r.choice((0, 0, 0, 1, 4, 20)) if r.random() < 0.98 else 40
        return r.choice(sorted(UNIFORM_EXTENSIONS)), bytes([0, units]) + r.randbytes(8 * units + 6)

    def _damaged(self, frame: bytes) -> bytes:
        r = self._random
        choice = r.randrange(7)
        if choice == 0:
            return frame[: r.randint(14, min(len(frame), 160))]
        if choice == 1:
            return frame[: r.randint(14, len(frame))]
        data = bytearray(frame)
        tags = 0
        while int.from_bytes(data[12 + 4 * tags : 14 + 4 * tags], "big") in TAG_ETHERTYPES:
            tags += 1
        ip = 14 + 4 * tags
        is_ipv4 = data[ip - 1] == 0
        if choice == 2:  # the IP header's length
            at = ip + (2 if is_ipv4 else 4)
            length = int.from_bytes(data[at : at + 2], "big") + r.choice((1, -1, -4, 8, -20, r.randint(-1500, 1500)))
            data[at : at + 2] = (length & 0xFFFF).to_bytes(2, "big")
        elif choice == 3:  # version and header length, or next header
            data[ip + (0 if is_ipv4 else r.choice((0, 6)))] = r.getrandbits(8)
        elif choice == 4 and len(data) > ip + 53:  # data offset, where the common packet has it
            data[ip + (32 if is_ipv4 else 52)] = r.getrandbits(8)
        elif choice == 5:  # the last header byte that says how long it is
            at = ip + (20 if is_ipv4 else 40) + r.randint(0, 39)
            if at < len(data):
                data[at] = r.choice((0, 1, 255, r.getrandbits(8)))
        else:
            for _ in range(r.randint(1, 4)):
                data[r.randrange(12, min(len(data), HEADERS_LEN))] ^= 1 << r.randrange(8)
        return bytes(data)
