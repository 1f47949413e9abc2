"""Hand-made TCP segments, which no Linux peer would send. Header layout: RFC 9293 section 3.1, all big endian."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from enum import IntFlag

from tracer.dissect.options import TFO as TFO_KIND
from tracer.dissect.options import TFO_MAGIC, walk

TFO_EXPERIMENT_KIND = 254  # RFC 6994
MSS_1460 = bytes((2, 4, 0x05, 0xB4))

_HEADER = struct.Struct("!HHIIHHHH")
_TCP = 6
_MASK = 0xFFFFFFFF


class Flag(IntFlag):
    """Control bits of a TCP header."""

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment. `seq` and `ack` are absolute; `options` is unpadded when sent and padded when received."""

    source_port: int
    target_port: int
    seq: int
    ack: int
    flags: Flag
    options: bytes = b""
    payload: bytes = b""
    window: int = 64240

    @property
    def next_seq(self) -> int:
        """The number with which a peer acknowledges all of this segment."""
        controls = (Flag.SYN in self.flags) + (Flag.FIN in self.flags)
        return (self.seq + len(self.payload) + controls) & _MASK


def internet_checksum(data: bytes) -> int:
    """One's complement sum of 16-bit words (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def encode(segment: Segment, source_ip: str, target_ip: str) -> bytes:
    """TCP header, options (padded with end-of-list) and payload with a correct checksum; no IP header."""
    options = segment.options + b"\0" * (-len(segment.options) % 4)
    if len(options) > 40:
        raise ValueError(f"{len(options)} bytes of TCP options do not fit into a header")
    first_word = ((20 + len(options)) // 4) << 12 | segment.flags
    numbers = (segment.source_port, segment.target_port, segment.seq & _MASK, segment.ack & _MASK)
    rest = options + segment.payload
    source, target = ipaddress.ip_address(source_ip).packed, ipaddress.ip_address(target_ip).packed
    length = _HEADER.size + len(rest)
    if len(source) == 4:
        pseudo = source + target + struct.pack("!BBH", 0, _TCP, length)
    else:
        pseudo = source + target + struct.pack("!II", length, _TCP)
    blank = _HEADER.pack(*numbers, first_word, segment.window, 0, 0)
    checksum = internet_checksum(pseudo + blank + rest)
    return _HEADER.pack(*numbers, first_word, segment.window, checksum, 0) + rest


def decode(data: bytes) -> Segment:
    """The segment in `data`, which starts with the TCP header. Raises ValueError if it is truncated."""
    if len(data) < _HEADER.size:
        raise ValueError("shorter than a TCP header")
    source_port, target_port, seq, ack, word, window, _checksum, _urgent = _HEADER.unpack_from(data)
    offset = (word >> 12) * 4
    if not _HEADER.size <= offset <= len(data):
        raise ValueError(f"data offset {offset} in {len(data)} bytes")
    options = data[_HEADER.size : offset]
    return Segment(source_port, target_port, seq, ack, Flag(word & 0x1F), options, data[offset:], window)


def tfo_option(cookie: bytes = b"", kind: int = TFO_KIND) -> bytes:
    """A Fast Open option; without a cookie it asks for one. Takes any cookie length, even forbidden ones."""
    if kind == TFO_KIND:
        return bytes((kind, 2 + len(cookie))) + cookie
    return struct.pack("!BBH", kind, 4 + len(cookie), TFO_MAGIC) + cookie


def tfo_cookie(options: bytes) -> bytes | None:
    """Cookie of the first Fast Open option of kind 34; b"" if it asks for one, None if there is no such option."""
    for option in walk(options)[0]:
        if option.kind == TFO_KIND:
            return options[option.offset + 2 : option.offset + option.length]
    return None
