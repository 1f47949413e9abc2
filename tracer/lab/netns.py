"""Network namespaces without names: they leave nothing in /run/netns, and the kernel frees them with their last user.

Python has os.unshare and os.setns only since 3.12, so this calls libc.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tracer.linux.libc import checked, libc
from tracer.linux.netns import CLONE_NEWNET


def unshare_network() -> None:
    """Move the calling thread into a new, empty network namespace (unshare(2)). Raises OSError (EPERM without root)."""
    checked(libc.unshare(CLONE_NEWNET), "unshare")


def enter(descriptor: int) -> None:
    """Move the calling thread into the network namespace of `descriptor` (setns(2)). Raises OSError."""
    checked(libc.setns(descriptor, CLONE_NEWNET), "setns")


def current() -> int:
    """Descriptor of the calling thread's network namespace; the caller closes it."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def _returning() -> Iterator[None]:
    home = current()
    try:
        yield
    finally:
        enter(home)
        os.close(home)


@contextmanager
def entered(descriptor: int) -> Iterator[None]:
    """Inside the block, the calling thread is in another network namespace. Sockets made there stay there."""
    with _returning():
        enter(descriptor)
        yield


def create() -> int:
    """Descriptor of a new network namespace without processes, which vanishes when its last copy is closed."""
    with _returning():
        unshare_network()
        return current()


def write_sysctl(name: str, value: str) -> bool:
    """Set net.`name` (slashes for dots) in the calling thread's namespace; False if this kernel does not have it."""
    try:
        Path("/proc/sys/net", name).write_text(value, encoding="ascii")
    except FileNotFoundError:
        return False
    return True
