"""The perf event ring of one CPU (include/uapi/linux/perf_event.h), for kernels without the BPF ring buffer.

The root part opens the perf events and puts them into the map (`open_all`); the user part maps and reads them
(`PerfRing`).
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import platform
import struct
from collections.abc import Iterator
from pathlib import Path

from tracer.linux import bpfsys

PAGE = mmap.PAGESIZE
_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241, "riscv64": 241, "ppc64le": 319, "s390x": 331}
_TYPE_SOFTWARE = 1
_COUNT_SW_BPF_OUTPUT = 10
_SAMPLE_RAW = 1 << 10
_FLAG_FD_CLOEXEC = 8
_IOC_ENABLE = 0x2400
_WATERMARK = 1 << 14  # bit of the flags word
_RECORD_SAMPLE = 9
_DATA_HEAD = 1024  # offsets in struct perf_event_mmap_page
_DATA_TAIL = 1032
_RECORD_HEADER = 8
_RAW_SIZE = 4


def online_cpus() -> list[int]:
    """CPUs that can run programs now (/sys/devices/system/cpu/online)."""
    cpus: list[int] = []
    for part in Path("/sys/devices/system/cpu/online").read_text().strip().split(","):
        first, _, last = part.partition("-")
        cpus.extend(range(int(first), int(last or first) + 1))
    return cpus


def open_all(map_fd: int, pages: int) -> dict[int, int]:
    """Open one software event per CPU and put it into the perf event array; returns CPU -> descriptor.

    `pages` is the size of the data area. The watermark is half of it, since user space polls.

    Raises:
        OSError: the kernel refuses, for example under perf_event_paranoid without CAP_PERFMON.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    attr = bytearray(128)
    struct.pack_into("<IIQQQQQ", attr, 0, _TYPE_SOFTWARE, 128, _COUNT_SW_BPF_OUTPUT, 1, _SAMPLE_RAW, 0, _WATERMARK)
    struct.pack_into("<I", attr, 48, pages * PAGE // 2)
    opened: dict[int, int] = {}
    for cpu in online_cpus():
        buffer = (ctypes.c_char * len(attr)).from_buffer(attr)
        number = _PERF_EVENT_OPEN[platform.machine()]
        fd = libc.syscall(number, buffer, -1, cpu, -1, _FLAG_FD_CLOEXEC)
        if fd < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        bpfsys.map_update_elem(map_fd, struct.pack("<I", cpu), struct.pack("<I", fd))
        fcntl.ioctl(fd, _IOC_ENABLE, 0)
        opened[cpu] = fd
    return opened


class PerfRing:
    """One CPU's ring, mapped: `read` yields the raw samples."""

    def __init__(self, fd: int, pages: int) -> None:
        self._map = mmap.mmap(fd, (1 + pages) * PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self.size = pages * PAGE
        view = memoryview(self._map)
        self._head = view[_DATA_HEAD : _DATA_HEAD + 8].cast("Q")
        self._tail = view[_DATA_TAIL : _DATA_TAIL + 8].cast("Q")
        self._data = view[PAGE:]

    def take(self) -> bytes:
        """Copy out all records written so far, with their headers, and release them to the kernel."""
        tail, head = self._tail[0], self._head[0]
        if tail == head:
            return b""
        start, stop = tail % self.size, head % self.size
        data = self._data
        taken = bytes(data[start:stop]) if start < stop else bytes(data[start:]) + bytes(data[:stop])
        self._tail[0] = head
        return taken


def samples(taken: bytes) -> Iterator[memoryview]:
    """The payload of each sample from `PerfRing.take`, padding included; other records are skipped."""
    view = memoryview(taken)
    offset = 0
    while offset + _RECORD_HEADER <= len(view):
        kind, _, size = struct.unpack_from("<IHH", view, offset)
        if size < _RECORD_HEADER:
            return
        if kind == _RECORD_SAMPLE:
            (length,) = struct.unpack_from("<I", view, offset + _RECORD_HEADER)
            begin = offset + _RECORD_HEADER + _RAW_SIZE
            yield view[begin : begin + length]
        offset += size


def sample_size(length: int) -> int:
    """Bytes that a sample of `length` takes: header, size word, data, padded to 8 as the kernel does."""
    return _RECORD_HEADER + ((_RAW_SIZE + length + 7) & ~7)


SAMPLE_DATA_OFFSET = _RECORD_HEADER + _RAW_SIZE
SAMPLE_KIND = _RECORD_SAMPLE
