"""Listening TCP sockets of the calling thread's network namespace, from /proc/net/tcp and tcp6.

sock_diag.py says more of them (IPV6_V6ONLY, SO_BINDTODEVICE) and is quicker, where the kernel has it at hand.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

_NET = "/proc/thread-self/net"  # of the calling thread's network namespace
_LISTEN = "0A"


@dataclass(frozen=True, slots=True)
class Listening:
    """A line of /proc/net/tcp or tcp6 in state LISTEN. `inode` is 0 for the kernel's own sockets."""

    ip: str
    port: int
    uid: int
    inode: int


def _address(text: str) -> str:
    """Hexadecimal words in host byte order, each four bytes in network order (net/ipv4/tcp_ipv4.c)."""
    words = [int(text[i : i + 8], 16) for i in range(0, len(text), 8)]
    raw = b"".join(struct.pack("=I", word) for word in words)
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def listening(folder: str = _NET, port: int | None = None, limit: int | None = None) -> list[Listening]:
    """Every listening TCP socket, or those of a port, by port; of each family no more than `limit`. Raises OSError."""
    found: list[Listening] = []
    for name in ("tcp", "tcp6"):
        with suppress(FileNotFoundError):  # a kernel without IPv6
            found += islice(_read(f"{folder}/{name}", ":" if port is None else f":{port:04X} "), limit)
    return sorted(found, key=lambda item: (item.port, item.ip, item.inode))


def _read(path: str, wanted: str) -> Iterator[Listening]:
    with open(path, encoding="ascii") as file:
        next(file, None)
        for line in file:
            if f" {_LISTEN} " not in line:
                return  # listeners come first: do not read the connections, perhaps a million
            if wanted not in line:
                continue
            fields = line.split()
            ip, _, port = fields[1].partition(":")
            yield Listening(_address(ip), int(port, 16), int(fields[7]), int(fields[9]))
