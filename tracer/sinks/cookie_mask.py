"""Fast Open cookies in captured packets: covered in place, so that a capture can be handed on.

A cookie opens its server's Fast Open to whoever sends it from its client's address. What stands in its place is as long
and, within a run, equal where the cookies are. A TCP checksum that was right stays right (RFC 1624), also that of a SYN
which an ICMP error quotes, whose own checksum then needs no change; one that the card was still to fill in is left.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import numpy as np

from tracer.dissect.options import EXPERIMENTS, TFO, TFO_MAGIC, walk
from tracer.sinks.packet_cache import Packets
from tracer.sinks.usual_cookies import cover_usual

_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"
# the tags and IPv6 headers that the kernel programs step over (bpf/parse_link.h, bpf/parse_ip.h): all of them
_TAGS = (b"\x81\x00", b"\x88\xa8", b"\x91\x00")
_ICMP, _TCP, _ICMPV6, _AH, _FRAGMENT = 1, 6, 58, 51, 44
_EXTENSIONS = (0, 43, 60, 135, 139, 140)  # IPv6 headers whose second byte counts units of 8 bytes beyond the first
_ICMP_HEADER = 8
_TCP_HEADER, _CHECK, _OPTIONS_MAX = 20, 16, 40  # bytes, but _CHECK: the checksum's offset
_OPTIONS_FROM = 40  # no option lies before: IPv4 and TCP take as much, without a link header
_MAGIC = TFO_MAGIC.to_bytes(2, "big")
_KINDS = (TFO, *EXPERIMENTS)


def without_cookies(packets: Packets, covered: Callable[[bytes], bytes]) -> Packets:
    """The same rows, with `covered(cookie)`, which must be as long, in place of each cookie."""
    if not len(packets):
        return packets
    data = packets["data"]
    kind, length = data[:, _OPTIONS_FROM:-1], data[:, _OPTIONS_FROM + 1 :]
    signs = (kind == TFO) & (length > 2) & (length <= _OPTIONS_MAX)
    signs |= (kind == _MAGIC[0]) & (length == _MAGIC[1])
    # what lies behind is left of other packets
    signs &= np.arange(_OPTIONS_FROM, _OPTIONS_FROM + kind.shape[1]) < packets["captured"][:, None]
    perhaps = np.flatnonzero(signs.any(axis=1))
    if not len(perhaps):
        return packets
    found = data[perhaps]
    captured, bare = packets["captured"][perhaps], packets["no_link_header"][perhaps] != 0
    usual = cover_usual(found, captured, bare, covered)
    for row in np.flatnonzero(~usual).tolist():
        packet = bytearray(found[row, : captured[row]])
        _cover(packet, 0 if bare[row] else _network(packet), covered)
        found[row, : captured[row]] = np.frombuffer(packet, np.uint8)
    packets = packets.copy()
    packets["data"][perhaps] = found
    return packets


def _network(packet: bytearray) -> int:
    """Where the IP header of an Ethernet frame begins."""
    at = 12
    while packet[at : at + 2] in _TAGS:
        at += 4
    return at + 2 if packet[at : at + 2] in (_IPV4, _IPV6) else len(packet)


def _cover(packet: bytearray, at: int, covered: Callable[[bytes], bytes]) -> None:
    """Cover the cookies of the TCP header behind the IP header at `at`, or of the one that an ICMP error quotes."""
    quoted = False
    while True:
        protocol, begin = _transport(packet, at)
        if protocol == _TCP:
            break
        if protocol not in (_ICMP, _ICMPV6) or quoted:
            return
        at, quoted = begin + _ICMP_HEADER, True
    change = 0  # of the sum of the header's words
    for place, length in _cookies(packet, begin):
        cookie = bytes(packet[place : place + length])
        instead = covered(cookie)
        packet[place : place + length] = instead
        apart = int.from_bytes(instead, "big") - int.from_bytes(cookie, "big")
        change += apart << 8 if (place + length - begin) % 2 else apart
    if not change:
        return
    (check,) = struct.unpack_from(">H", packet, begin + _CHECK)
    if quoted or check != _pseudo(packet, at, begin):
        update = ((~check & 0xFFFF) + change) % 0xFFFF
        struct.pack_into(">H", packet, begin + _CHECK, ~(update or 0xFFFF) & 0xFFFF)


def _transport(packet: bytearray, at: int) -> tuple[int, int]:
    """Protocol behind the IP header at `at`, and where it begins; -1 where that cannot be read."""
    version = packet[at] >> 4 if at < len(packet) else 0
    if version == 4 and at + 20 <= len(packet):
        is_first = not int.from_bytes(packet[at + 6 : at + 8], "big") & 0x1FFF
        return (packet[at + 9] if is_first else -1), at + 4 * (packet[at] & 15)
    if version != 6:
        return -1, at
    protocol, at = packet[at + 6] if at + 40 <= len(packet) else -1, at + 40
    while protocol in (*_EXTENSIONS, _FRAGMENT, _AH) and at + 8 <= len(packet):
        if protocol == _FRAGMENT and int.from_bytes(packet[at + 2 : at + 4], "big") & 0xFFF8:
            return -1, at
        length = (
            8 if protocol == _FRAGMENT else 4 * (packet[at + 1] + 2) if protocol == _AH else 8 * (packet[at + 1] + 1)
        )
        protocol, at = packet[at], at + length
    return protocol, at


def _header_len(packet: bytearray, begin: int) -> int:
    """Bytes of the TCP header that are there; 0 where it is cut within its fixed part."""
    if begin + _TCP_HEADER > len(packet):
        return 0
    return min(4 * (packet[begin + 12] >> 4), len(packet) - begin)


def _cookies(packet: bytearray, begin: int) -> Iterator[tuple[int, int]]:
    """Place and length of each cookie in the options of the TCP header at `begin`."""
    start, end = begin + _TCP_HEADER, begin + _header_len(packet, begin)
    if end <= start:
        return
    options = bytes(packet[start:end])
    found, stop = walk(options)
    perhaps = [(one.kind, one.offset, one.offset + one.length) for one in found if one.kind in _KINDS]
    if stop < len(options):  # an option that goes beyond the header, or beyond what was captured of it
        perhaps.append((options[stop], stop, len(options)))
    for kind, at, after in perhaps:
        body = at + 2
        if kind in EXPERIMENTS and options[body : body + 2] == _MAGIC:
            body += 2
        elif kind != TFO:
            continue
        if body < after:
            yield start + body, after - body


def _pseudo(packet: bytearray, at: int, begin: int) -> int:
    """What stands for the checksum until the card fills it in: the sum over addresses, protocol and length."""
    if packet[at] >> 4 == 4:
        addresses, end = packet[at + 12 : at + 20], at + int.from_bytes(packet[at + 2 : at + 4], "big")
    else:
        addresses, end = packet[at + 8 : at + 40], at + 40 + int.from_bytes(packet[at + 4 : at + 6], "big")
    return (_sum(addresses) + _TCP + max(0, end - begin)) % 0xFFFF or 0xFFFF


def _sum(data: bytearray) -> int:
    """The ones' complement sum of 16-bit words (RFC 1071): 2 ** 16 is 1 modulo 65535."""
    return int.from_bytes(data if len(data) % 2 == 0 else data + b"\0", "big") % 0xFFFF
