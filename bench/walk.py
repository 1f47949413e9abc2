"""Whole handshakes of many connections by BPF_PROG_TEST_RUN: a program before the measured one makes the frames."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.packets import Flow, address, option, padded
from tracer.ipc.event_header import BPF_DIR
from tracer.linux import bpfsys
from tracer.root.kernel import Kernel

SOURCE = Path(__file__).with_name("walk.bpf.c")
HEADERS_LEN = 96
FRAME_LEN = 1200  # of every frame; the IP header has the segment's real length
SYN, PSH, ACK = 2, 8, 16
ISN, SERVER_ISN = 1000, 5000
TIMESTAMPS = option(8, bytes(8))
SYN_OPTIONS = padded(option(2, b"\x05\xb4") + option(4) + TIMESTAMPS + b"\x01" + option(3, b"\x07"))
DATA_OPTIONS = b"\x01\x01" + TIMESTAMPS
_KEY = bytes(4)


@dataclass(frozen=True, slots=True)
class Segment:
    """One kind of segment; `frame` is that of connection 0."""

    name: str
    frame: bytes
    from_client: bool = True


def handshake(payload_len: int = 0, request_len: int = 0) -> list[Segment]:
    """SYN, SYN-ACK, ACK, the client's request if it has a length, and the server's first data.

    A payload goes into the SYN with a Fast Open cookie.
    """
    flow = Flow(address("10.1.0.0"), address("198.51.100.2"), 1024, 443)
    cookie = padded(option(34, bytes(8))) if payload_len else b""
    acked = ISN + 1 + payload_len
    request = flow.frame(ACK | PSH, acked, SERVER_ISN + 1, payload=bytes(request_len), options=DATA_OPTIONS)
    data = flow.back.frame(ACK | PSH, SERVER_ISN + 1, acked + request_len, payload=bytes(100), options=DATA_OPTIONS)
    return [
        Segment("SYN", flow.frame(SYN, ISN, payload=bytes(payload_len), options=SYN_OPTIONS + cookie)),
        Segment("SYN-ACK", flow.back.frame(SYN | ACK, SERVER_ISN, acked, options=SYN_OPTIONS), False),
        Segment("ACK", flow.frame(ACK, acked, SERVER_ISN + 1, options=DATA_OPTIONS)),
        *([Segment("request", request)] if request_len else []),
        Segment("first data", data, False),
    ]


@dataclass
class Walk:
    """A context with the loaded program. `hook` is tc or xdp; frames arrive at `ifindex` of this namespace."""

    hook: str
    ifindex: int = 1
    _bpf: Any = field(init=False)
    _program: int = field(init=False)

    def __post_init__(self) -> None:
        os.environ["BCC_KERNEL_SOURCE"] = str(BPF_DIR)
        from bcc import BPF  # type: ignore[import-untyped,unused-ignore]

        self._bpf = BPF(text=SOURCE.read_text(), cflags=[f"-I{BPF_DIR}"])
        kind = BPF.SCHED_CLS if self.hook == "tc" else BPF.XDP
        self._program = self._bpf.load_func(f"{self.hook}_walk", kind).fd

    def run(self, program: int, segments: Sequence[Segment], first: int, count: int, times: int = 1) -> int:
        """Run each segment for `count` connections from `first` on, `times` times.

        Returns the average nanoseconds per packet, including this program's share.
        """
        bpfsys.map_update_elem(self._bpf[f"{self.hook}_measured"].map_fd, _KEY, struct.pack("=I", program))
        for number, one in enumerate(segments):
            value = one.frame[:HEADERS_LEN].ljust(HEADERS_LEN, b"\0") + struct.pack("=Q", one.from_client)
            bpfsys.map_update_elem(self._bpf["segments"].map_fd, struct.pack("=I", number), value)
        position = struct.pack("=QQQQII", first, count, len(segments), 0, 0, 0)
        bpfsys.map_update_elem(self._bpf["positions"].map_fd, _KEY, position)
        repeat = count * len(segments) * times
        return bpfsys.prog_test_run(self._program, bytes(FRAME_LEN), self._context(), repeat).duration_ns

    def _context(self) -> bytes:
        """struct __sk_buff or xdp_md with the interface; none for loopback, where test runs arrive anyway."""
        if self.ifindex == 1:
            return b""
        if self.hook == "xdp":
            return struct.pack("=IIIIII", 0, FRAME_LEN, 0, self.ifindex, 0, 0)
        return bytes(40) + struct.pack("=I", self.ifindex) + bytes(148)

    def __enter__(self) -> Walk:
        return self

    def __exit__(self, *_: object) -> None:
        self._bpf.cleanup()


class RingReset:
    """A BPF ring that nobody reads, which can be emptied."""

    def __init__(self, fd: int) -> None:
        self._consumer = mmap.mmap(fd, mmap.PAGESIZE)
        self._producer = mmap.mmap(fd, mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ, offset=mmap.PAGESIZE)

    @staticmethod
    @contextmanager
    def of(kernel: Kernel) -> Iterator[Callable[[], None]]:
        """Objects that empty both rings of the loaded programs."""
        rings = [RingReset(kernel.loaded.maps[name]) for name in ("events", "payloads")]

        def empty() -> None:
            for ring in rings:
                ring.empty()

        try:
            yield empty
        finally:
            for ring in rings:
                ring.close()

    def empty(self) -> None:
        """Drop everything in the ring; no program may be running."""
        self._consumer[:8] = self._producer[:8]

    def close(self) -> None:
        """Unmap."""
        self._consumer.close()
        self._producer.close()
