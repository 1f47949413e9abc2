"""A TLS ClientHello in the data of a SYN: who is asked for and which protocols are offered.

Sources: RFC 8446 4.1.2 and 5.1 (ClientHello, records), RFC 6066 3 (server_name), RFC 7301 3.1 (ALPN),
RFC 8701 (GREASE), RFC 9849 (encrypted_client_hello, 0xfe0d). All numbers on the wire are big endian.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from tracer.payload_text import name_text

RECORD_HEADER = 5
HANDSHAKE_HEADER = 4
RECORD_TYPE_HANDSHAKE = 22
CLIENT_HELLO = 1
RECORD_MAX = 16384
HELLO_FIXED = HANDSHAKE_HEADER + 2 + 32  # message header, legacy_version, random

EXTENSION_SERVER_NAME = 0
EXTENSION_ALPN = 16
EXTENSION_ECH = 0xFE0D

# What a peer may make us do: real ClientHellos have one to five records, under 30 extensions, under 10 protocols.
RECORDS_MAX = 64
EXTENSIONS_MAX = 128
ALPN_MAX = 16

_U16_PAIR = Struct("!HH")
_ECH_BYTES = EXTENSION_ECH.to_bytes(2, "big")
_GREASE = frozenset(bytes((i << 4 | 0xA, i << 4 | 0xA)) for i in range(16))


@dataclass(frozen=True, slots=True)
class Tls:
    """What a ClientHello says in the clear.

    `sni` is the first host name, None where there is none or where it is not whole in what was captured; with
    `ech` it is the public name of the provider. `alpn` holds the protocols in the client's order without GREASE,
    None as above. `ech` is true for the GREASE form too: from outside the two cannot be told apart, and that is
    their purpose.
    """

    sni: str | None
    alpn: tuple[str, ...] | None
    ech: bool


def parse_tls(data: bytes) -> tuple[Tls, bool] | None:
    """What `data` says if it begins with a ClientHello, and whether that message is cut; None for anything else.

    Never raises. Three bytes are enough to be recognised, because a SYN may carry as little.
    """
    size = len(data)
    if size < 3 or data[0] != RECORD_TYPE_HANDSHAKE or data[1] != 3 or data[2] > 4:
        return None
    if size < RECORD_HEADER:
        return Tls(None, None, False), True
    length = data[3] << 8 | data[4]
    if not 0 < length <= RECORD_MAX:
        return None
    if size > RECORD_HEADER and data[RECORD_HEADER] != CLIENT_HELLO:
        return None
    hello = data[RECORD_HEADER : RECORD_HEADER + length]
    if RECORD_HEADER + length < size and _needs_more(hello):
        hello = _join_records(data)
    cut = _needs_more(hello)
    if not cut:
        hello = hello[: HANDSHAKE_HEADER + int.from_bytes(hello[1:4], "big")]
    return _parse_hello(hello), cut


def _needs_more(hello: bytes) -> bool:
    return len(hello) < HANDSHAKE_HEADER or len(hello) < HANDSHAKE_HEADER + int.from_bytes(hello[1:4], "big")


def _join_records(data: bytes) -> bytes:
    """The handshake bytes of consecutive handshake records (RFC 8446 5.1: a message may span several)."""
    parts: list[bytes] = []
    offset = 0
    for _ in range(RECORDS_MAX):
        if offset + RECORD_HEADER > len(data) or data[offset] != RECORD_TYPE_HANDSHAKE or data[offset + 1] != 3:
            break
        length = data[offset + 3] << 8 | data[offset + 4]
        parts.append(data[offset + RECORD_HEADER : offset + RECORD_HEADER + length])
        offset += RECORD_HEADER + length
    return b"".join(parts)


def _parse_hello(hello: bytes) -> Tls:
    """Read what is there; a length that lies ends the reading and keeps what was found before it."""
    sni: str | None = None
    alpn: tuple[str, ...] | None = None
    ech = False
    size = len(hello)
    offset = HELLO_FIXED
    if offset < size:
        offset += 1 + hello[offset]  # legacy_session_id
        if offset + 2 <= size:
            offset += 2 + (hello[offset] << 8 | hello[offset + 1])  # cipher_suites
            if offset < size:
                offset += 1 + hello[offset]  # legacy_compression_methods
                if offset + 2 <= size:
                    end = min(size, offset + 2 + (hello[offset] << 8 | hello[offset + 1]))
                    offset += 2
                    unpack = _U16_PAIR.unpack_from
                    may_have_ech = _ECH_BYTES in hello  # if not, nothing is left to look for behind SNI and ALPN
                    for _ in range(EXTENSIONS_MAX):
                        if offset + 4 > end:
                            break
                        kind, length = unpack(hello, offset)
                        start = offset + 4
                        offset = start + length
                        if kind == EXTENSION_ECH:
                            ech = True  # its presence is the fact, whole or cut
                        if offset > end:
                            break
                        if kind == EXTENSION_SERVER_NAME and sni is None:
                            sni = _server_name(hello, start, offset)
                        elif kind == EXTENSION_ALPN and alpn is None:
                            alpn = _protocols(hello, start, offset)
                        if sni is not None and alpn is not None and not may_have_ech:
                            break
    return Tls(sni, alpn, ech)


def _server_name(hello: bytes, start: int, end: int) -> str | None:
    """The first entry if it is a host name: no other type was ever defined (RFC 6066 3)."""
    if end - start < 5 or hello[start + 2] != 0:
        return None
    list_length, _ = _U16_PAIR.unpack_from(hello, start)
    length = hello[start + 3] << 8 | hello[start + 4]
    if length == 0 or start + 2 + list_length > end or 3 + length > list_length:
        return None
    return name_text(hello[start + 5 : start + 5 + length])


def _protocols(hello: bytes, start: int, end: int) -> tuple[str, ...] | None:
    if end - start < 2:
        return None
    end = min(end, start + 2 + (hello[start] << 8 | hello[start + 1]))
    offset = start + 2
    names: list[str] = []
    for _ in range(ALPN_MAX):
        if offset >= end:
            break
        after = offset + 1 + hello[offset]
        if after > end or after == offset + 1:
            break
        name = hello[offset + 1 : after]
        if name not in _GREASE:
            names.append(name.decode("utf-8", "backslashreplace"))
        offset = after
    return tuple(names) or None
