"""A small netlink for the root part: interfaces and addresses, and attaching where the kernel has no link for it.

Everything else uses pyroute2 (pyroute.py). The root part reads its filters four times a second, and attaches within a
millisecond to an interface that appears during a run. A child that imports pyroute2 for that takes 0.1 to 0.2 s, during
which handshakes pass untraced. As the code for attaching is here anyway, such a child at the start and the end would
only do the same in a second and slower way (bench/netlink.py). `tfotrace detach` shares that code.

Each request opens a socket and closes it, so it goes to the network namespace that the calling thread is in now; who
has many at once opens one with connect() and uses exchange(), as sock_diag.py and conntrack.py do. Integers are in host
byte order unless said otherwise. Sources: rtnetlink(7), include/uapi/linux/netlink.h.
"""

from __future__ import annotations

import math
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

NEWLINK, DELLINK, GETLINK, SETLINK = 16, 17, 18, 19
NEWADDR, DELADDR, GETADDR = 20, 21, 22
GETROUTE = 26
GETNEIGH = 30
NEWQDISC, GETQDISC = 36, 38
NEWTFILTER, DELTFILTER, GETTFILTER = 44, 45, 46

F_REQUEST, F_ACK, F_ECHO, F_DUMP, F_EXCL, F_CREATE = 0x1, 0x4, 0x8, 0x300, 0x200, 0x400
_F_MULTI, _F_DUMP_INTR = 0x2, 0x10
_F_CAPPED, _F_ACK_TLVS = 0x100, 0x200
_ERROR, _DONE = 2, 3
_SOL_NETLINK = 270
_CAP_ACK, _EXT_ACK, _STRICT_CHK = 10, 11, 12
_NESTED = 0x8000
_TYPE_MASK = 0x3FFF
_HEADER = struct.Struct("=IHHII")
LINK_HEADER = struct.Struct("=BxHiII")  # struct ifinfomsg: family, ARPHRD type, index, flags, change mask
_RECEIVE = 1 << 16


@dataclass(frozen=True, slots=True)
class Message:
    """One netlink message: its type, flags and payload (family header and attributes)."""

    type: int
    flags: int
    payload: bytes


def text(raw: bytes) -> str:
    """A NUL-terminated string."""
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return struct.pack("=HH", len(value) + 4, kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind | _NESTED, b"".join(attributes))


def each_attribute(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Attributes of `data` from `offset`; stops at the first that does not fit."""
    while offset + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, offset)
        if size < 4 or offset + size > len(data):
            return
        yield kind & _TYPE_MASK, data[offset + 4 : offset + size]
        offset += (size + 3) & ~3


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """The same as a mapping; if an attribute comes twice, the last one counts."""
    return dict(each_attribute(data, offset))


def messages(data: bytes) -> Iterator[Message]:
    """Messages of one datagram."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        size, kind, flags, _, _ = _HEADER.unpack_from(data, offset)
        if size < _HEADER.size or offset + size > len(data):
            return
        yield Message(kind, flags, data[offset + _HEADER.size : offset + size])
        offset += (size + 3) & ~3


def connect(protocol: int = socket.NETLINK_ROUTE, patience_s: float | None = None) -> socket.socket:
    """A socket for requests in the calling thread's network namespace. Raises OSError.

    Answers are there at once, but for a lock in the kernel; `patience_s` is how long to wait for one.
    """
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    try:
        sock.settimeout(patience_s)
        sock.bind((0, 0))
        for option in (_EXT_ACK, _CAP_ACK):
            with suppress(OSError):  # on an older kernel, errors have no sentence
                sock.setsockopt(_SOL_NETLINK, option, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def _raise_error(message: Message) -> None:
    """Raise OSError with the kernel's own sentence (extended ACK), or the text of the errno."""
    (code,) = struct.unpack_from("=i", message.payload, 0)
    if code == 0:
        return
    reason = os.strerror(-code)
    if message.flags & _F_ACK_TLVS:
        (size,) = struct.unpack_from("=I", message.payload, 4)
        start = 4 + (_HEADER.size if message.flags & _F_CAPPED else (size + 3) & ~3)
        sentence = attributes(message.payload, start).get(1)
        if sentence:
            reason = text(sentence).rstrip(".")
    raise OSError(-code, reason)


def exchange(sock: socket.socket, kind: int, payload: bytes, flags: int = 0, limit: float = math.inf) -> list[Message]:
    """Send a request; returns every message of the answer. Raises OSError.

    After `limit` messages it stops reading; then close the socket, since the rest is still to come.
    """
    found: list[Message] = []
    sock.send(_HEADER.pack(_HEADER.size + len(payload), kind, flags | F_REQUEST, 1, 0) + payload)
    while True:
        for message in messages(sock.recv(_RECEIVE)):
            found.append(message)
            if message.type == _ERROR:
                _raise_error(message)
            if message.type in (_ERROR, _DONE) or not message.flags & _F_MULTI or len(found) >= limit:
                return found


def _exchange(kind: int, payload: bytes, flags: int = 0, strict: bool = False) -> list[Message]:
    with connect() as sock:
        if strict:
            with suppress(OSError):
                sock.setsockopt(_SOL_NETLINK, _STRICT_CHK, 1)
        return exchange(sock, kind, payload, flags)


def request(kind: int, payload: bytes, flags: int = 0) -> None:
    """Ask for a change and wait for the acknowledgement. Raises OSError."""
    _exchange(kind, payload, flags | F_ACK)


def get(kind: int, payload: bytes, flags: int = 0) -> bytes:
    """Payload of the one answer to a look-up. Raises OSError."""
    return _exchange(kind, payload, flags)[0].payload


def dump(kind: int, payload: bytes, strict: bool = False) -> list[bytes]:
    """Payloads of a dump, which is repeated if something changed meanwhile. Raises OSError.

    `strict` makes the kernel filter by the fields of the header (Linux 4.20; older kernels give everything).
    """
    for _ in range(8):
        answer = _exchange(kind, payload, F_DUMP, strict)
        if not any(message.flags & _F_DUMP_INTR for message in answer):
            break
    return [message.payload for message in answer[:-1]]
