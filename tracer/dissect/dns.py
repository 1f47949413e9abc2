"""A DNS query over TCP in the data of a SYN: its question.

Sources: RFC 1035 4.1 (header, question) and 4.2.2 (two length bytes over TCP), RFC 3597 5 (TYPE65280), the IANA
registry of types. Only the question is read; compression is not followed, since nothing precedes it to point at.
"""

from __future__ import annotations

from struct import Struct

import msgspec

DNS_PORT = 53
PREFIX = 2  # bytes of length before the message
HEADER = 12
MESSAGE_MIN = HEADER + 1 + 4  # root name, type, class
NAME_BYTES_MAX = 255

TYPES = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 10: "NULL", 12: "PTR", 13: "HINFO", 15: "MX", 16: "TXT", 17: "RP",
    18: "AFSDB", 24: "SIG", 25: "KEY", 28: "AAAA", 29: "LOC", 33: "SRV", 35: "NAPTR", 36: "KX", 37: "CERT",
    39: "DNAME", 41: "OPT", 42: "APL", 43: "DS", 44: "SSHFP", 45: "IPSECKEY", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY",
    49: "DHCID", 50: "NSEC3", 51: "NSEC3PARAM", 52: "TLSA", 53: "SMIMEA", 55: "HIP", 59: "CDS", 60: "CDNSKEY",
    61: "OPENPGPKEY", 62: "CSYNC", 63: "ZONEMD", 64: "SVCB", 65: "HTTPS", 99: "SPF", 108: "EUI48", 109: "EUI64",
    249: "TKEY", 250: "TSIG", 251: "IXFR", 252: "AXFR", 255: "ANY", 256: "URI", 257: "CAA",
}  # fmt: skip
CLASSES = frozenset((1, 3, 4, 254, 255))  # IN, CH, HS, NONE, ANY

_HEAD = Struct("!HHHHHHH")  # length, id, flags, four counts
_U16_PAIR = Struct("!HH")


class Dns(msgspec.Struct, frozen=True, gc=False):
    r"""The first question. `name` has no dot at its end (the root is "."); a dot or backslash inside a label is
    escaped by a backslash (RFC 1035 5.1), bytes that are not UTF-8 read `\xNN`. `type` is "A" or "TYPE65280"."""

    name: str
    type: str


def parse_dns(data: bytes, server_port: int | None) -> tuple[Dns | None, bool] | None:
    """The question if `data` begins with a DNS query, and whether the message is cut; None for anything else.

    On ports other than 53 the whole question must be there and make sense, since 14 bytes of another protocol can look
    like a header. On port 53 a valid header is enough: the question is None if it is cut. Never raises.
    """
    size = len(data)
    if size < PREFIX + HEADER:
        return None
    length, _, flags, questions, answers, authority, additional = _HEAD.unpack_from(data)
    # QR 0, opcode QUERY, rcode 0, reserved bit 0. IXFR has an SOA in authority; EDNS and TSIG are additional.
    if length < MESSAGE_MIN or flags & 0xF84F or questions != 1 or answers or authority > 1 or additional > 2:
        return None
    cut = PREFIX + length > size
    end = min(size, PREFIX + length)
    known_port = server_port == DNS_PORT
    name = _name(data, PREFIX + HEADER, end)
    if name is None:
        return (None, True) if known_port and cut and _only_cut(data, PREFIX + HEADER, end) else None
    text, after = name
    if after + 4 > end:
        return (None, True) if known_port and cut else None
    kind, klass = _U16_PAIR.unpack_from(data, after)
    if not known_port and klass not in CLASSES:
        return None
    return Dns(text, TYPES.get(kind) or f"TYPE{kind}"), cut


def _name(data: bytes, offset: int, end: int) -> tuple[str, int] | None:
    """The name at `offset` and the offset after it; None if it is cut at `end` or not a plain name."""
    limit = offset + NAME_BYTES_MAX
    labels: list[str] = []
    while offset < end and offset < limit:
        length = data[offset]
        offset += 1
        if length == 0:
            return ".".join(labels) or ".", offset
        if length > 63 or offset + length > end:  # compression and extended labels start at 64
            return None
        label = data[offset : offset + length]
        if b"\\" in label or b"." in label:
            label = label.replace(b"\\", b"\\\\").replace(b".", b"\\.")
        labels.append(label.decode("utf-8", "backslashreplace"))
        offset += length
    return None


def _only_cut(data: bytes, offset: int, end: int) -> bool:
    """Is the name at `offset` valid as far as it goes, and cut at `end`?"""
    limit = offset + NAME_BYTES_MAX
    while offset < end and offset < limit:
        length = data[offset]
        if length == 0 or length > 63:
            return False
        offset += 1 + length
    return offset >= end and end < limit
