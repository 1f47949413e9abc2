"""Listening TCP sockets, the processes that own them, and their Fast Open options.

/proc/net/tcp lists them, but neither it nor sock_diag shows Fast Open: only getsockopt(2) on the socket does. We get a
copy of its descriptor by pidfd_getfd(2) (Linux 5.6), read the options and close it; nothing is set.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from tracer.linux.libc import checked, libc
from tracer.linux.proc import open_files, pids

_NET = "/proc/thread-self/net"  # of the calling thread's network namespace
_LISTEN = "0A"
_PIDFD_GETFD = 438  # the same number on every architecture but alpha
# include/uapi/linux/tcp.h
_TCP_INFO, _TCP_FASTOPEN, _TCP_FASTOPEN_KEY, _TCP_FASTOPEN_NO_COOKIE = 11, 23, 33, 34
_KEY_SIZE = 16
_WAITING_OFFSET = 24  # tcpi_unacked and tcpi_sacked: for a listener, the accept queue's length and limit


@dataclass(frozen=True, slots=True)
class Listening:
    """A line of /proc/net/tcp or tcp6 in state LISTEN. `inode` is 0 for the kernel's own sockets."""

    ip: str
    port: int
    uid: int
    inode: int


Owner = tuple[int, int]  # a process that owns a socket, and its descriptor there


@dataclass(frozen=True, slots=True)
class ListenerOptions:
    """A listener's options. `own_keys` and `no_cookie` are None if the kernel does not know the option.

    `queue`: the limit of TFO connections in SYN_RECV, 0 if TCP_FASTOPEN is not set; their current number cannot be
    read. `own_keys`: 0, 1, or 2 with a backup. `waiting` of `backlog` connections wait to be accepted.
    """

    queue: int
    own_keys: int | None
    no_cookie: bool | None
    waiting: int
    backlog: int


def _address(text: str) -> str:
    """Hexadecimal words in host byte order, each four bytes in network order (net/ipv4/tcp_ipv4.c)."""
    words = [int(text[i : i + 8], 16) for i in range(0, len(text), 8)]
    raw = b"".join(struct.pack("=I", word) for word in words)
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def listening(folder: str = _NET) -> list[Listening]:
    """Every listening TCP socket of the calling thread's network namespace, by port."""
    found: list[Listening] = []
    for name in ("tcp", "tcp6"):
        with suppress(FileNotFoundError):  # a kernel without IPv6
            found += _read(f"{folder}/{name}")
    return sorted(found, key=lambda item: (item.port, item.ip, item.inode))


def _read(path: str) -> Iterator[Listening]:
    with open(path, encoding="ascii") as file:
        next(file, None)
        for line in file:
            fields = line.split()
            if fields[3] != _LISTEN:
                return  # listeners come first: do not read the connections, perhaps a million
            ip, _, port = fields[1].partition(":")
            yield Listening(_address(ip), int(port, 16), int(fields[7]), int(fields[9]))


def owners(inodes: set[int]) -> tuple[dict[int, list[Owner]], bool]:
    """Owners by the socket's inode, and whether there are processes whose descriptors we may not read."""
    found: dict[int, list[Owner]] = {}
    unseen = False
    wanted = {f"socket:[{inode}]": inode for inode in inodes if inode}
    for pid in sorted(pids()):
        try:
            for fd, file in open_files(pid):
                if file in wanted:
                    found.setdefault(wanted[file], []).append((pid, fd))
        except PermissionError:  # noqa: PERF203 - the next process may allow it
            unseen = True
        except OSError:  # it has just ended
            continue
    return found, unseen


def ask(owner: Owner, inode: int) -> ListenerOptions | None:
    """Read the socket's options; None if that descriptor is another file by now. Raises OSError."""
    pid, descriptor = owner
    pidfd = os.pidfd_open(pid)
    try:
        fd = checked(libc.syscall(_PIDFD_GETFD, pidfd, descriptor, 0))
    finally:
        os.close(pidfd)
    if os.fstat(fd).st_ino != inode:
        os.close(fd)
        return None
    with socket.socket(fileno=fd) as copy:
        return facts(copy)


def facts(listener: socket.socket) -> ListenerOptions:
    """Read the options of a listening socket. Raises OSError."""
    info = listener.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 104)
    waiting, backlog = struct.unpack_from("=II", info, _WAITING_OFFSET)
    return ListenerOptions(
        queue=listener.getsockopt(socket.IPPROTO_TCP, _TCP_FASTOPEN),
        own_keys=_own_keys(listener),
        no_cookie=_no_cookie(listener),
        waiting=waiting,
        backlog=backlog,
    )


def _own_keys(listener: socket.socket) -> int | None:
    """Look only at the length of the answer, which is empty for a listener without keys of its own."""
    try:
        return len(listener.getsockopt(socket.IPPROTO_TCP, _TCP_FASTOPEN_KEY, 2 * _KEY_SIZE)) // _KEY_SIZE
    except OSError:
        return None


def _no_cookie(listener: socket.socket) -> bool | None:
    try:
        return bool(listener.getsockopt(socket.IPPROTO_TCP, _TCP_FASTOPEN_NO_COOKIE))
    except OSError:
        return None
