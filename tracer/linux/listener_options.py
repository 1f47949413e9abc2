"""Fast Open options of somebody else's listening socket.

Neither /proc/net/tcp nor sock_diag shows them: only getsockopt(2) on the socket does. We get a copy of its descriptor
by pidfd_getfd(2) (Linux 5.6), read the options and close it; nothing is set. That needs CAP_SYS_PTRACE.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tracer.linux.libc import checked, libc

Owner = tuple[int, int]  # a process that owns a socket, and its descriptor there

_PIDFD_GETFD = 438  # the same number on every architecture but alpha
# include/uapi/linux/tcp.h
_TCP_INFO, _TCP_FASTOPEN, _TCP_FASTOPEN_KEY, _TCP_FASTOPEN_NO_COOKIE = 11, 23, 33, 34
_KEY_SIZE = 16
_SO_BINDTOIFINDEX = 62  # Linux 5.1; include/uapi/asm-generic/socket.h
_WAITING_OFFSET = 24  # tcpi_unacked and tcpi_sacked: for a listener, the accept queue's length and limit
_Answer = TypeVar("_Answer")


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


def ask(owner: Owner, inode: int) -> ListenerOptions | None:
    """Read the socket's options; None if that descriptor is another file by now. Raises OSError."""
    return of_copy(owner, inode, facts)


def of_copy(owner: Owner, inode: int, read: Callable[[socket.socket], _Answer]) -> _Answer | None:
    """What `read` says of the socket, of which it gets a copy; None if the descriptor is another file by now.

    Raises OSError.
    """
    pid, descriptor = owner
    pidfd = os.pidfd_open(pid)
    try:
        fd = checked(libc.syscall(_PIDFD_GETFD, pidfd, descriptor, 0))
    finally:
        os.close(pidfd)
    try:
        found = os.fstat(fd)
        if not stat.S_ISSOCK(found.st_mode) or found.st_ino != inode:
            return None
        with socket.socket(fileno=os.dup(fd)) as copy:
            return read(copy)
    finally:
        os.close(fd)


def facts(listener: socket.socket) -> ListenerOptions:
    """Read the options of a listening socket. Raises OSError."""
    queued, backlog = waiting(listener)
    keys = own_keys(listener)
    return ListenerOptions(
        queue=queue(listener),
        own_keys=None if keys is None else len(keys),
        no_cookie=_no_cookie(listener),
        waiting=queued,
        backlog=backlog,
    )


def queue(listener: socket.socket) -> int:
    """TCP_FASTOPEN: the length of the queue, 0 where Fast Open is off. Raises OSError."""
    return listener.getsockopt(socket.IPPROTO_TCP, _TCP_FASTOPEN)


def waiting(listener: socket.socket) -> tuple[int, int]:
    """How many connections wait to be accepted, and the backlog. Raises OSError."""
    info = listener.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 104)
    queued, backlog = struct.unpack_from("=II", info, _WAITING_OFFSET)
    return queued, backlog


def defers(listener: socket.socket) -> bool:
    """TCP_DEFER_ACCEPT: does it wait for the client's data? Raises OSError."""
    return listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT) > 0


def own_keys(listener: socket.socket) -> tuple[bytes, ...] | None:
    """The listener's own key and backup key; empty where the sysctl's apply, None if the kernel does not say."""
    try:
        raw = listener.getsockopt(socket.IPPROTO_TCP, _TCP_FASTOPEN_KEY, 2 * _KEY_SIZE)
    except OSError:
        return None
    return tuple(raw[at : at + _KEY_SIZE] for at in range(0, len(raw), _KEY_SIZE))


def bound_device(listener: socket.socket) -> int:
    """Index of the interface or VRF that the socket is bound to, 0 for none. Raises OSError."""
    return listener.getsockopt(socket.SOL_SOCKET, _SO_BINDTOIFINDEX)


def v6only(listener: socket.socket) -> bool | None:
    """Whether an IPv6 socket leaves IPv4 alone; None for one of IPv4. Raises OSError."""
    if listener.family != socket.AF_INET6:
        return None
    return bool(listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))


def _no_cookie(listener: socket.socket) -> bool | None:
    try:
        return bool(listener.getsockopt(socket.IPPROTO_TCP, _TCP_FASTOPEN_NO_COOKIE))
    except OSError:
        return None


def may_be_copied(status: Path = Path("/proc/self/status")) -> bool:
    """Whether the kernel has pidfd_getfd(2), and this process may try it.

    A filter of system calls (systemd's SystemCallFilter) may end the process that tries. So if there is a filter, a
    child tries first.
    """
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return False
    if "Seccomp:\t2" not in lines:
        return _exists()
    try:
        child = os.fork()
        if not child:
            _try_and_exit()
        return os.waitpid(child, 0)[1] == 0
    except OSError:  # too many processes, or SIGCHLD is ignored
        return False


def _try_and_exit() -> None:
    """The child must not go on as its parent, whatever happens."""
    refused = True
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        refused = not _exists()
    finally:
        os._exit(refused)


def _exists() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
        checked(libc.syscall(_PIDFD_GETFD, -1, -1, 0))
    except OSError as error:
        return error.errno == errno.EBADF
    return False
