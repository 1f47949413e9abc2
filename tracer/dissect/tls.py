"""A TLS ClientHello in the data of a SYN: the host name and the protocols offered.

Sources: RFC 8446 4.1.2 and 5.1 (ClientHello, records), RFC 6066 3 (server_name), RFC 7301 3.1 (ALPN),
RFC 8701 (GREASE), RFC 9849 (encrypted_client_hello, 0xfe0d). All numbers on the wire are big endian.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct

import msgspec
import numpy as np
from numpy.typing import NDArray

from tracer.dissect.shapes import NEAR, Span
from tracer.dissect.text import NAME_MAX, name_text

RECORD_HEADER = 5
HANDSHAKE_HEADER = 4
RECORD_TYPE_HANDSHAKE = 22
CLIENT_HELLO = 1
RECORD_MAX = 16384
HELLO_FIXED = HANDSHAKE_HEADER + 2 + 32  # message header, legacy_version, random

EXTENSION_SERVER_NAME = 0
EXTENSION_ALPN = 16
EXTENSION_ECH = 0xFE0D

# Limits on a peer's input: real ClientHellos have one to five records, under 30 extensions, under 10 protocols.
RECORDS_MAX = 64
EXTENSIONS_MAX = 128
ALPN_MAX = 16
ALPN_KNOWN_MAX = 64  # bytes of an extension to cache

_U16_PAIR = Struct("!HH")
_ECH_BYTES = EXTENSION_ECH.to_bytes(2, "big")
_GREASE = frozenset(bytes((i << 4 | 0xA, i << 4 | 0xA)) for i in range(16))


class Tls(msgspec.Struct, frozen=True, gc=False):
    """What a ClientHello says in the clear.

    `sni` is the first host name, None if there is none or if the capture cut it; with `ech` it is the provider's
    public name. `alpn` has the protocols in the client's order without GREASE, None as above. `ech` is true for the
    GREASE form too, which by design looks the same from outside.
    """

    sni: str | None
    alpn: tuple[str, ...] | None
    ech: bool


# a ClientHello before decoding: raw host name, protocols, ECH, and whether the message is cut
Hello = tuple[bytes | None, tuple[str, ...] | None, bool, bool]


def parse_tls(data: bytes) -> tuple[Hello, list[Span]] | None:
    """What `data` says if it begins with a ClientHello, and which bytes the parse skipped; None for anything else.
    Without spans, similar messages have to be parsed again (shapes.py).

    Never raises. Three bytes are enough, since a SYN may carry as little. The host name is cut to NAME_MAX + 1 bytes,
    so that tls_of() sees that it was cut.
    """
    size = len(data)
    if size < 3 or data[0] != RECORD_TYPE_HANDSHAKE or data[1] != 3 or data[2] > 4:
        return None
    if size < RECORD_HEADER:
        return (None, None, False, True), []
    length = data[3] << 8 | data[4]
    if not 0 < length <= RECORD_MAX:
        return None
    if size > RECORD_HEADER and data[RECORD_HEADER] != CLIENT_HELLO:
        return None
    hello = data[RECORD_HEADER : RECORD_HEADER + length]
    whole = _message_size(hello)
    joined = whole > len(hello) and RECORD_HEADER + length < size
    if joined:
        hello = _join_records(data)
        whole = _message_size(hello)
    cut = whole > len(hello)
    if whole < len(hello):
        hello = hello[:whole]
    sni, alpn, ech, jumped = _parse_hello(hello)
    spans: list[Span] = []
    if not joined and not may_have_ech(data):
        spans = [(RECORD_HEADER + start, RECORD_HEADER + end) for start, end in jumped[:-1]]
        spans.append((min(size, RECORD_HEADER + jumped[-1][0]), size))
    return (sni, alpn, ech, cut), spans


def may_have_ech(data: bytes) -> bool:
    """Are the bytes of ECH's extension anywhere? Only then does the parse continue after host name and protocols."""
    return _ECH_BYTES in data


def rows_with_ech(messages: NDArray[np.uint8]) -> NDArray[np.intp]:
    """may_have_ech() of messages of one length, which are the rows: those of which it holds, and perhaps others."""
    data = messages.reshape(-1)
    at = np.flatnonzero(data[:-1] == _ECH_BYTES[0])
    at = at[data[at + 1] == _ECH_BYTES[1]]
    rows: NDArray[np.intp] = at // messages.shape[1]
    return rows


def tls_of(sni: bytes | None, alpn: tuple[str, ...] | None, ech: bool) -> Tls:
    """Decode a Hello."""
    return Tls(None if sni is None else name_text(sni), alpn, ech)


def _message_size(hello: bytes) -> int:
    """The size of the handshake message that begins here, header included."""
    if len(hello) < HANDSHAKE_HEADER:
        return HANDSHAKE_HEADER
    return HANDSHAKE_HEADER + (hello[1] << 16 | hello[2] << 8 | hello[3])


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


def _parse_hello(hello: bytes) -> tuple[bytes | None, tuple[str, ...] | None, bool, list[Span]]:
    """Read what is there; a wrong length ends the parse, which keeps what it found before.

    Also returns the skipped spans, of which the last is everything after the end of the parse.
    """
    sni: bytes | None = None
    alpn: tuple[str, ...] | None = None
    ech = False
    size = len(hello)
    offset = HELLO_FIXED
    jumped: list[Span] = [(HANDSHAKE_HEADER, min(size, offset))]
    if offset < size:
        jumped.append((offset + 1, offset := offset + 1 + hello[offset]))  # legacy_session_id
        if offset + 2 <= size:
            length = hello[offset] << 8 | hello[offset + 1]
            jumped.append((offset + 2, offset := offset + 2 + length))  # cipher_suites
            if offset < size:
                offset += 1 + hello[offset]  # legacy_compression_methods
                if offset + 2 <= size:
                    end = min(size, offset + 2 + (hello[offset] << 8 | hello[offset + 1]))
                    offset += 2
                    unpack = _U16_PAIR.unpack_from
                    to_the_end = may_have_ech(hello)  # if not, we can stop after SNI and ALPN
                    last = end - 4
                    for _ in range(EXTENSIONS_MAX):
                        if offset > last:
                            break
                        kind, length = unpack(hello, offset)
                        start = offset + 4
                        offset = start + length
                        if kind == EXTENSION_ECH:
                            ech = True  # its presence is the fact, whole or cut
                        if offset > end:
                            break
                        if kind == EXTENSION_SERVER_NAME:
                            if sni is None:
                                sni = _server_name(hello, start, offset)
                        elif kind == EXTENSION_ALPN:
                            if alpn is None:
                                alpn = _protocols(hello[start:offset])
                        else:
                            if length > NEAR:
                                jumped.append((start, offset))
                            continue
                        if sni is not None and alpn is not None and not to_the_end:
                            break
    jumped.append((offset, size))
    return sni, alpn, ech, jumped


def _server_name(hello: bytes, start: int, end: int) -> bytes | None:
    """The first entry if it is a host name; no other type was ever defined (RFC 6066 3)."""
    if end - start < 5 or hello[start + 2] != 0:
        return None
    list_length, _ = _U16_PAIR.unpack_from(hello, start)
    length = hello[start + 3] << 8 | hello[start + 4]
    if length == 0 or start + 2 + list_length > end or 3 + length > list_length:
        return None
    return hello[start + 5 : start + 5 + min(length, NAME_MAX + 1)]


def _protocols(body: bytes) -> tuple[str, ...] | None:
    """The protocols in this extension. Clients offer few different lists, so mostly it is cached."""
    return _known_protocols(body) if len(body) <= ALPN_KNOWN_MAX else _read_protocols(body)


def _read_protocols(body: bytes) -> tuple[str, ...] | None:
    if len(body) < 2:
        return None
    end = min(len(body), 2 + (body[0] << 8 | body[1]))
    offset = 2
    names: list[str] = []
    for _ in range(ALPN_MAX):
        if offset >= end:
            break
        after = offset + 1 + body[offset]
        if after > end or after == offset + 1:
            break
        name = body[offset + 1 : after]
        if name not in _GREASE:
            names.append(name.decode("utf-8", "backslashreplace"))
        offset = after
    return tuple(names) or None


_known_protocols = lru_cache(maxsize=256)(_read_protocols)
