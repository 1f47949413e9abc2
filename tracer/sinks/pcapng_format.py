"""The blocks of a pcapng file (draft-ietf-opsawg-pcapng): just the four that a capture of handshakes needs.

A library would save these lines but add a dependency. dpkt, the only maintained one that writes comments and flags,
makes an object of each option and has no interface statistics; the tests read with it. Numbers are little-endian,
times are nanoseconds since the epoch.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

LINKTYPE_ETHERNET = 1
LINKTYPE_RAW = 101  # begins with the IP header

INBOUND, OUTBOUND = 1, 2  # epb_flags, bits 0 and 1

PACKET_BLOCK = 6
_SECTION, _INTERFACE, _STATISTICS = 0x0A0D0D0A, 1, 5
_BYTE_ORDER = 0x1A2B3C4D
_UNKNOWN_LENGTH = 0xFFFFFFFFFFFFFFFF
_OPTION_MAX = 65535

# option codes
_END, _COMMENT = 0, 1
_SHB_OS, _SHB_APPLICATION = 3, 4
_IF_NAME, _IF_DESCRIPTION, _IF_RESOLUTION = 2, 3, 9
_NANOSECONDS = b"\x09"  # 10^-9
_EPB_FLAGS = 2
FLAGS_OPTION = _EPB_FLAGS | 4 << 16  # its head as a word: code and length
COMMENT_OPTION = _COMMENT  # the same, without the length
_ISB_END, _ISB_OS_DROP, _ISB_DELIVERED = 3, 7, 8

_OPTION = struct.Struct("<HH")
_HEAD = struct.Struct("<II")
_EPB = struct.Struct("<IIIIIII")
_FLAGS = struct.Struct("<HHI")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


def _option(code: int, value: bytes) -> bytes:
    value = value[:_OPTION_MAX]
    return _OPTION.pack(code, len(value)) + value + _PADDING[len(value) & 3]


def comment_bytes(text: str) -> bytes:
    """The bytes of an option's text. One that is too long is cut, not in the middle of a character."""
    data = text.encode()
    return data if len(data) <= _OPTION_MAX else data[:_OPTION_MAX].decode(errors="ignore").encode()


def _text(code: int, text: str) -> bytes:
    return _option(code, comment_bytes(text)) if text else b""


def _block(kind: int, body: bytes, options: Sequence[bytes]) -> bytes:
    used = b"".join(options)
    end = _OPTION.pack(_END, 0) if used else b""
    length = 12 + len(body) + len(used) + len(end)
    return b"".join((_HEAD.pack(kind, length), body, used, end, length.to_bytes(4, "little")))


def section(application: str, system: str, comment: str = "") -> bytes:
    """Section header: begins a file, or a part appended to one."""
    body = struct.pack("<IHHQ", _BYTE_ORDER, 1, 0, _UNKNOWN_LENGTH)
    options = [_text(_COMMENT, comment), _text(_SHB_OS, system), _text(_SHB_APPLICATION, application)]
    return _block(_SECTION, body, options)


def interface(name: str, description: str, link_type: int) -> bytes:
    """Interface description; packets refer to it by its number within the section, from 0."""
    body = struct.pack("<HHI", link_type, 0, 0)
    options = [_text(_IF_NAME, name), _text(_IF_DESCRIPTION, description), _option(_IF_RESOLUTION, _NANOSECONDS)]
    return _block(_INTERFACE, body, options)


def packet(number: int, at_ns: int, wire_len: int, data: bytes, direction: int, comment: str = "") -> bytes:
    """Enhanced packet. `wire_len` is the frame's length in bytes, `data` its captured part."""
    flags = _FLAGS.pack(_EPB_FLAGS, 4, direction)
    options = flags + _text(_COMMENT, comment) + b"\0\0\0\0" if comment else flags + b"\0\0\0\0"
    captured = len(data)
    padding = _PADDING[captured & 3]
    length = _EPB.size + captured + len(padding) + len(options) + 4
    head = _EPB.pack(PACKET_BLOCK, length, number, at_ns >> 32, at_ns & 0xFFFFFFFF, captured, max(wire_len, captured))
    return b"".join((head, data, padding, options, length.to_bytes(4, "little")))


def statistics(number: int, at_ns: int, delivered: int, dropped: int, comment: str = "") -> bytes:
    """Interface statistics: packets written for it, and packets that the kernel could not deliver."""
    stamp = struct.pack("<II", at_ns >> 32, at_ns & 0xFFFFFFFF)
    options = [
        _text(_COMMENT, comment),
        _option(_ISB_END, stamp),
        _option(_ISB_OS_DROP, dropped.to_bytes(8, "little")),
        _option(_ISB_DELIVERED, delivered.to_bytes(8, "little")),
    ]
    return _block(_STATISTICS, struct.pack("<III", number, *struct.unpack("<II", stamp)), options)


def whole(data: bytes, limit: int) -> int:
    """How many bytes of `data`, a sequence of blocks, form blocks that end within the first `limit` bytes."""
    end = 0
    while end + _HEAD.size <= limit:
        _, length = _HEAD.unpack_from(data, end)
        if end + length > limit:
            break
        end += length
    return end
