"""The client's side: the servers whose Fast Open cookies this host has.

The kernel keeps cookies in tcp_metrics, per network namespace. They are bearer tokens and never leave this file.
Source: the generic netlink family of include/uapi/linux/tcp_metrics.h, net/ipv4/tcp_metrics.c.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator

from tracer.doctor.model import CachedServer, Finding, Level, Topic, explained, some
from tracer.doctor.settings import CLIENT
from tracer.linux import netlink
from tracer.vocabulary.printable import plural

_CTRL_ID, _CTRL_GETFAMILY, _CTRL_FAMILY_ID, _CTRL_FAMILY_NAME = 16, 3, 1, 2
_GET, _VERSION = 1, 1
_IPV4, _IPV6, _AGE, _MSS, _DROPS, _COOKIE, _SOURCE_IPV4, _SOURCE_IPV6 = 1, 2, 3, 7, 8, 10, 11, 12
_HEADER = struct.Struct("=BBH")  # genlmsghdr: command, version, reserved


def _ip(fields: dict[int, bytes], four: int, six: int) -> str | None:
    raw = fields.get(four) or fields.get(six)
    if raw is None or len(raw) not in (4, 16):
        return None
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def _number(raw: bytes | None) -> int | None:
    return int.from_bytes(raw, sys.byteorder) if raw is not None else None


def parse(payload: bytes) -> CachedServer | None:
    """Parse one entry; None if it says nothing about Fast Open."""
    fields = netlink.attributes(payload, _HEADER.size)
    server = _ip(fields, _IPV4, _IPV6)
    cookie, mss, drops = fields.get(_COOKIE, b""), _number(fields.get(_MSS)), _number(fields.get(_DROPS))
    if server is None or not (cookie or mss or drops):
        return None
    age_ms = _number(fields.get(_AGE))
    return CachedServer(
        server_ip=server,
        client_ip=_ip(fields, _SOURCE_IPV4, _SOURCE_IPV6),
        cookie_len=len(cookie),
        mss=mss or None,
        syn_drops=drops or 0,
        age_us=None if age_ms is None else age_ms * 1000.0,
    )


def look() -> list[CachedServer]:
    """The Fast Open entries in this network namespace's cache. Raises OSError if it cannot be read."""
    ask = _HEADER.pack(_CTRL_GETFAMILY, _VERSION, 0) + netlink.attribute(_CTRL_FAMILY_NAME, b"tcp_metrics\0")
    answer = netlink.get(_CTRL_ID, ask, netlink.GENERIC)
    (family,) = struct.unpack_from("=H", netlink.attributes(answer, _HEADER.size)[_CTRL_FAMILY_ID])
    found = netlink.dump(family, _HEADER.pack(_GET, _VERSION, 0), protocol=netlink.GENERIC)
    entries = (parse(payload) for payload in found)
    return sorted((item for item in entries if item is not None), key=lambda item: item.server_ip)


def findings(found: list[CachedServer] | None, bits: int | None, prefix: str) -> Iterator[Finding]:
    """`found` is None if the cache could not be read."""
    if found is None:
        yield _finding("not_asked", Level.UNKNOWN, "the kernel's cache of cookies (tcp_metrics) cannot be read")
        return
    with_cookie = [item for item in found if item.cookie_len]
    if with_cookie:
        servers = some(dict.fromkeys(item.server_ip for item in with_cookie))
        kept = f"this host has cookies of {len(with_cookie)} {plural(len(with_cookie), 'server')}"
        text = f"{kept}: {servers}; its next SYN to them can carry data"
        if bits is not None and not bits & CLIENT:
            text += ", once Fast Open is on for clients again"
        yield _finding("kept", Level.OK, text, f"{prefix}ip tcp_metrics flush  # forgets them")
    else:
        text = "this host has no cookies: no program here used Fast Open, no server granted a cookie, or they aged out"
        yield _finding("none", Level.INFO, text)
    dropped = [item for item in found if item.syn_drops]
    if dropped:
        most = max(item.syn_drops for item in dropped)
        servers = some(dict.fromkeys(item.server_ip for item in dropped))
        text = f"SYNs with Fast Open went unanswered (up to {most} in a row): {servers}"
        command = f"{prefix}ip tcp_metrics show  # fo_syn_drops"
        yield _finding("syn_drops", Level.WARNING, text, command, "path_drops_syn_data")


def _finding(word: str, level: Level, text: str, command: str | None = None, cause: str | None = None) -> Finding:
    return Finding(Topic.COOKIES, word, level, explained(text, cause) if cause else text, command, cause=cause)
