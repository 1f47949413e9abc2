"""Listening TCP sockets, who holds them, and what they say of themselves.

/proc/net/tcp names them; Fast Open is not in there, nor does sock_diag have it: the socket itself must be asked. A copy
of its descriptor is had by pidfd_getfd(2) (Linux 5.6), asked by getsockopt(2) and closed; nothing is set.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PROC = Path("/proc")
_NET = "/proc/thread-self/net"  # that of the calling thread's network namespace
_LISTEN = "0A"
_PIDFD_GETFD = 438  # the same number on every architecture but alpha
# include/uapi/linux/tcp.h
_TCP_INFO, _TCP_FASTOPEN, _TCP_FASTOPEN_KEY, _TCP_FASTOPEN_NO_COOKIE = 11, 23, 33, 34
_KEY_SIZE = 16
_WAITING_OFFSET = 24  # tcpi_unacked and tcpi_sacked: of a listener, its accept queue and the limit of that

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


@dataclass(frozen=True, slots=True)
class Listening:
    """A line of /proc/net/tcp or tcp6 in state LISTEN. `inode` is 0 for sockets of the kernel itself."""

    ip: str
    port: int
    uid: int
    inode: int


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that holds a socket, and under which descriptor."""

    pid: int
    fd: int


@dataclass(slots=True)
class Owners:
    """Who holds which socket, by inode; `unseen` processes would not show their descriptors."""

    by_inode: dict[int, list[Owner]] = field(default_factory=dict)
    unseen: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """What a listener says of itself. `own_keys` and `no_cookie` are None where the kernel does not know the question.

    `queue`: the limit of TFO connections in SYN_RECV, 0 where TCP_FASTOPEN is not set. How many there are now cannot
    be asked. `own_keys`: 0, 1, or 2 with a backup. `waiting` of `backlog` connections wait to be accepted.
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
                return  # listeners come first: the connections, of which there may be a million, are not read
            ip, _, port = fields[1].partition(":")
            yield Listening(_address(ip), int(port, 16), int(fields[7]), int(fields[9]))


def owners(inodes: set[int], proc: Path = PROC) -> Owners:
    """Look through the descriptors of every process that can be seen."""
    result = Owners()
    wanted = {f"socket:[{inode}]": inode for inode in inodes if inode}
    for name in sorted((entry for entry in os.listdir(proc) if entry.isdigit()), key=int):
        folder = f"{proc}/{name}/fd"
        try:
            descriptors = os.listdir(folder)
        except PermissionError:
            result.unseen += 1
            continue
        except OSError:  # it has just ended
            continue
        for fd in descriptors:
            try:
                inode = wanted.get(os.readlink(f"{folder}/{fd}"))
            except OSError:
                continue
            if inode is not None:
                result.by_inode.setdefault(inode, []).append(Owner(int(name), int(fd)))
    return result


def ask(owner: Owner, inode: int) -> Facts | None:
    """What the socket says; None when that descriptor is another file by now. Raises OSError."""
    pidfd = os.pidfd_open(owner.pid)
    try:
        fd = int(_libc.syscall(_PIDFD_GETFD, pidfd, owner.fd, 0))
        if fd < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        os.close(pidfd)
    if os.fstat(fd).st_ino != inode:
        os.close(fd)
        return None
    with socket.socket(fileno=fd) as copy:
        return facts(copy)


def facts(listener: socket.socket) -> Facts:
    """Ask a listening socket. Raises OSError."""
    info = listener.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 104)
    waiting, backlog = struct.unpack_from("=II", info, _WAITING_OFFSET)
    return Facts(
        queue=listener.getsockopt(socket.IPPROTO_TCP, _TCP_FASTOPEN),
        own_keys=_own_keys(listener),
        no_cookie=_no_cookie(listener),
        waiting=waiting,
        backlog=backlog,
    )


def _own_keys(listener: socket.socket) -> int | None:
    """Only the length of the answer is looked at: a listener without keys of its own answers nothing."""
    try:
        return len(listener.getsockopt(socket.IPPROTO_TCP, _TCP_FASTOPEN_KEY, 2 * _KEY_SIZE)) // _KEY_SIZE
    except OSError:
        return None


def _no_cookie(listener: socket.socket) -> bool | None:
    try:
        return bool(listener.getsockopt(socket.IPPROTO_TCP, _TCP_FASTOPEN_NO_COOKIE))
    except OSError:
        return None
