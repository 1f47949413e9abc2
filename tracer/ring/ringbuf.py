"""The BPF ring buffer's pages, mapped here and read without a system call (kernel/bpf/ringbuf.c).

Layout: one page with the consumer's position (which we write), one with the producer's, then the data twice in a row,
so that a record that wraps is still contiguous. Each record has an 8 byte header whose first word is the length; bit 31
means that the producer is still writing, bit 30 that the record must be skipped.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import struct
from collections.abc import Callable

PAGE = mmap.PAGESIZE
HEADER = 8
BUSY = 1 << 31
DISCARDED = 1 << 30
LENGTH = DISCARDED - 1
WORD = struct.Struct("<I")  # a header's first

_MEMBARRIER = {"aarch64": 283, "riscv64": 283, "ppc64le": 365}
_PRIVATE_EXPEDITED = 8
_REGISTER_PRIVATE_EXPEDITED = 16


def _load_barrier() -> Callable[[], None] | None:
    """On x86 loads are not reordered with loads; elsewhere membarrier(2) keeps them in order."""
    number = _MEMBARRIER.get(platform.machine())
    if number is None:
        return None
    libc = ctypes.CDLL(None)
    libc.syscall(number, _REGISTER_PRIVATE_EXPEDITED, 0, 0)

    def barrier() -> None:
        libc.syscall(number, _PRIVATE_EXPEDITED, 0, 0)

    return barrier


class Ring:
    """A mapped ring: positions in bytes that only grow, and the data.

    `writable` maps the consumer's position for writing: exactly one process may do that.
    """

    def __init__(self, fd: int, size: int, writable: bool = True) -> None:
        self.size = size
        self.mask = size - 1
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self._consumer_page = mmap.mmap(fd, PAGE, mmap.MAP_SHARED, protection)
        self._rest = mmap.mmap(fd, PAGE + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=PAGE)
        self._consumer = memoryview(self._consumer_page).cast("Q")
        self._producer = memoryview(self._rest)[:PAGE].cast("Q")
        self.data = memoryview(self._rest)[PAGE:]
        self._barrier = _load_barrier()

    @property
    def consumed(self) -> int:
        """The consumer's position, bytes."""
        return self._consumer[0]

    def produced(self) -> int:
        """The producer's position, bytes; everything before it may be read."""
        position = self._producer[0]
        self.barrier()
        return position

    def barrier(self) -> None:
        """Keep later loads from being done before earlier ones."""
        if self._barrier is not None:
            self._barrier()

    def release(self, position: int) -> None:
        """Give everything before `position` back to the producer."""
        self._consumer[0] = position

    @property
    def fill(self) -> int:
        """Bytes not consumed yet."""
        return self._producer[0] - self._consumer[0]

    def close(self) -> None:
        """Unmap."""
        self._consumer.release()
        self._producer.release()
        self.data.release()
        self._consumer_page.close()
        self._rest.close()


def padded(length: int) -> int:
    """Bytes that a record of `length` takes in the ring, header included."""
    return (length + HEADER + 7) & ~7
