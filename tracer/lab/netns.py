"""Network namespaces without names: nothing is left in /run/netns, the kernel frees them with their last holder.

Python has os.unshare and os.setns only since 3.12, so the two system calls are made through libc here.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h
PR_SET_NAME = 15

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def unshare_network() -> None:
    """Move the calling thread into a new, empty network namespace (unshare(2)). Raises OSError (EPERM without root)."""
    _check(_libc.unshare(CLONE_NEWNET), "unshare")


def enter(descriptor: int) -> None:
    """Move the calling thread into the network namespace of `descriptor` (setns(2)). Raises OSError."""
    _check(_libc.setns(descriptor, CLONE_NEWNET), "setns")


def current() -> int:
    """Descriptor of the calling thread's network namespace; the caller closes it."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def entered(descriptor: int) -> Iterator[None]:
    """The calling thread is in another network namespace inside the block; sockets made there stay there."""
    home = current()
    try:
        enter(descriptor)
        try:
            yield
        finally:
            enter(home)
    finally:
        os.close(home)


def create() -> int:
    """Descriptor of a new network namespace that no process lives in; it vanishes when the last copy is closed."""
    home = current()
    try:
        unshare_network()
        try:
            return current()
        finally:
            enter(home)
    finally:
        os.close(home)


def write_sysctl(name: str, value: str) -> bool:
    """Set net.`name` (slashes for dots) of the calling thread's namespace; False where this kernel has no such knob."""
    try:
        Path("/proc/sys/net", name).write_text(value, encoding="ascii")
    except FileNotFoundError:
        return False
    return True


def die_with_parent(number: int) -> None:
    """Have signal `number` sent to this process when the THREAD that forked it ends (prctl(2), PR_SET_PDEATHSIG)."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0), "prctl")


def name_process(name: str) -> None:
    """Set the name that ps shows for the calling thread, at most 15 characters."""
    _check(_libc.prctl(PR_SET_NAME, name.encode(), 0, 0, 0), "prctl")
