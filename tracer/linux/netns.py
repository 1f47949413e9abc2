"""Network namespaces: which one a thread is in, and how to find and enter another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from tracer.errors import CannotTraceError, UsageError
from tracer.linux.libc import checked, libc
from tracer.linux.proc import pids

CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h


def current() -> int:
    """Inode of the calling thread's network namespace."""
    return os.stat("/proc/thread-self/ns/net").st_ino


def enter(path: str) -> None:
    """Move the calling thread, and no other, into the namespace at `path`. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        checked(libc.setns(fd, CLONE_NEWNET), path)
    finally:
        os.close(fd)


def path_from(where: str) -> str:
    """The path that --netns means: a name of `ip netns`, a path, or pid:N."""
    if where.startswith("pid:"):
        return f"/proc/{where[4:]}/ns/net"
    return where if "/" in where else f"/run/netns/{where}"


def enter_named(where: str) -> None:
    """enter() what --netns names. Raises UsageError, and CannotTraceError if that is not permitted."""
    try:
        enter(path_from(where))
    except PermissionError:
        why = "without root: run it with sudo"
        if os.geteuid() == 0:
            why = "by root here: root in a container lacks CAP_SYS_ADMIN or CAP_SYS_PTRACE, run it on the host"
        raise CannotTraceError(f'network namespace "{where}" cannot be entered {why}') from None
    except OSError as error:
        raise UsageError(
            f'no network namespace "{where}" ({error.strerror}): --netns takes a name (ip netns list), a path or pid:N'
        ) from None


def path_of(inode: int) -> str | None:
    """A path to a namespace: one of `ip netns`, or of a process in it; None if there is none."""
    for path in _candidates():
        with suppress(OSError):  # a process that has just ended
            if os.stat(path).st_ino == inode:
                return path
    return None


def _candidates() -> Iterator[str]:
    with suppress(OSError):
        yield from (f"/run/netns/{name}" for name in sorted(os.listdir("/run/netns")))
    yield from (f"/proc/{pid}/ns/net" for pid in pids())
