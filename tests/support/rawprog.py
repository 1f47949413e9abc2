"""Tiny BPF programs from raw instructions: they count packets in an array map and return a fixed verdict."""

from __future__ import annotations

import os
import resource
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from tracer.linux import bpfsys

SCHED_CLS, XDP = 3, 6
TC_ACT_UNSPEC, TC_ACT_OK = -1, 0
XDP_PASS = 2

_ARRAY, _PERCPU_ARRAY = 2, 6


def _unlimited(make: Callable[[], int]) -> int:
    """Call it without the limit of locked memory, against which maps and programs count before 5.11."""
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    with suppress(ValueError):  # not allowed to
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    try:
        return make()
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, before)  # tfotrace lifts it itself, which is tested


def create_map(value_size: int = 8, entries: int = 1, per_cpu: bool = False) -> int:
    """Descriptor of an array map with u32 keys."""
    kind = _PERCPU_ARRAY if per_cpu else _ARRAY
    return _unlimited(lambda: bpfsys.map_create(bpfsys.MapInfo(kind, 0, 4, value_size, entries, 0, "")))


def _instruction(code: int, dst: int = 0, src: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("=BBhi", code, src << 4 | dst, offset, immediate)


def load(kind: int, verdict: int, name: str, map_fd: int) -> int:
    """Load `counter[0] += 1; return verdict`."""
    code = b"".join(
        (
            _instruction(0x62, dst=10, offset=-4),  # *(u32 *)(r10 - 4) = 0
            _instruction(0xBF, dst=2, src=10),  # r2 = r10
            _instruction(0x07, dst=2, immediate=-4),  # r2 += -4
            _instruction(0x18, dst=1, src=1, immediate=map_fd),  # r1 = map
            _instruction(0),
            _instruction(0x85, immediate=1),  # r0 = bpf_map_lookup_elem(r1, r2)
            _instruction(0x15, offset=2),  # if (!r0) goto +2
            _instruction(0xB7, dst=1, immediate=1),  # r1 = 1
            _instruction(0xDB, dst=0, src=1),  # lock *(u64 *)r0 += r1
            _instruction(0xB7, immediate=verdict),  # r0 = verdict
            _instruction(0x95),  # return r0
        )
    )
    return _unlimited(lambda: bpfsys.prog_load(kind, name, code))


@dataclass
class Counting:
    """A loaded counting program; close() when done."""

    fd: int
    map_fd: int

    @classmethod
    def make(cls, kind: int, verdict: int, name: str) -> Counting:
        map_fd = create_map()
        return cls(load(kind, verdict, name, map_fd), map_fd)

    @property
    def id(self) -> int:
        return bpfsys.program_info(self.fd).id

    @property
    def count(self) -> int:
        return int.from_bytes(bpfsys.map_lookup_elem(self.map_fd, bytes(4), 8), sys.byteorder)

    def close(self) -> None:
        os.close(self.fd)
        os.close(self.map_fd)
