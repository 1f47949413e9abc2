"""The real kernel programs, loaded by bcc in this process and fed by BPF_PROG_TEST_RUN: nothing is attached.

Frames go through `tc_ingress`, `tc_egress` or `xdp_ingress` and all later stages; records are read from the rings,
counters and the pending table from the maps. Needs root.
"""

from __future__ import annotations

import ctypes
import enum
import mmap
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tracer.ipc.event_header import struct
from tracer.ipc.layout import to_dtype
from tracer.loader import compiler, filter_program
from tracer.loader.packet_filter import PacketFilter

BPF_FOLDER = Path(__file__).resolve().parents[2] / "tracer" / "bpf"
SETS = 8192
WAYS = 8
HASH_KEY = 0x9E3779B97F4A7C15
EVENT_RING_PAGES = 2048
PAYLOAD_RING_PAGES = 1024
LOOPBACK = 1
NS_PER_S = 1_000_000_000
# Later than any boot clock: a sweep at this time settles everything with a deadline.
FAR_FUTURE_NS = 1 << 62

BALANCE = ("emitted", "lost", "evicted_unanswered", "evicted_half_open", "evicted_awaiting_response", "suppressed")


class Road(enum.Enum):
    """Which program a frame meets first."""

    TC_INGRESS = "tc_ingress"
    TC_EGRESS = "tc_egress"
    XDP = "xdp_ingress"


class _TestRunAttr(ctypes.Structure):
    """`union bpf_attr`, the part named `test` (include/uapi/linux/bpf.h)."""

    _fields_ = [
        ("prog_fd", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("data_in", ctypes.c_uint64),
        ("data_out", ctypes.c_uint64),
        ("repeat", ctypes.c_uint32),
        ("duration", ctypes.c_uint32),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_uint64),
        ("ctx_out", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
    ]


class _ElementAttr(ctypes.Structure):
    """`union bpf_attr`, the part of map look-up and update."""

    _fields_ = [
        ("map_fd", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
        ("key", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    ]


_BPF_MAP_LOOKUP_ELEM = 1
_BPF_MAP_UPDATE_ELEM = 2
_BPF_PROG_TEST_RUN = 10
_SYSCALL_BPF = {"x86_64": 321, "aarch64": 280}
_SKB_CTX_LEN = 192
_SKB_IFINDEX_OFFSET = 40
_SKB_TSTAMP_OFFSET = 152
_SKB_WIRE_LEN_OFFSET = 160
_XDP_CTX_LEN = 24

_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, attr: ctypes.Structure) -> None:
    if _libc.syscall(_SYSCALL_BPF[platform.machine()], command, ctypes.byref(attr), ctypes.sizeof(attr)) < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"bpf({command}): {os.strerror(error)}")


def possible_cpus() -> int:
    """How many values a per-CPU map element has (/sys/devices/system/cpu/possible, "0-3" or "0")."""
    return int(Path("/sys/devices/system/cpu/possible").read_text().strip().rpartition("-")[2]) + 1


class Ring:
    """A reader of one BPF ring buffer, for tests: plain and slow (kernel/bpf/ringbuf.c has the layout)."""

    def __init__(self, fd: int, pages: int) -> None:
        self._size = pages * mmap.PAGESIZE
        self._consumer = mmap.mmap(fd, mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._producer = mmap.mmap(
            fd, mmap.PAGESIZE + 2 * self._size, mmap.MAP_SHARED, mmap.PROT_READ, offset=mmap.PAGESIZE
        )

    def read(self) -> list[bytes]:
        """All records there are, oldest first; their place is free afterwards."""
        position = int.from_bytes(self._consumer[:8], "little")
        end = int.from_bytes(self._producer[:8], "little")
        records = []
        while position < end:
            at = mmap.PAGESIZE + position % self._size
            header = int.from_bytes(self._producer[at : at + 4], "little")
            if header >> 31:
                break  # busy: another CPU is still writing it
            length = header & 0x3FFFFFFF
            if not header >> 30 & 1:
                records.append(bytes(self._producer[at + 8 : at + 8 + length]))
            position += 8 + (length + 7) // 8 * 8
        self._consumer[:8] = position.to_bytes(8, "little")
        return records

    def close(self) -> None:
        """Unmaps the ring."""
        self._consumer.close()
        self._producer.close()


@dataclass(slots=True)
class Payload:
    """One payload record: the id of its handshake, bytes on the wire and what was captured of them."""

    id: int
    len: int
    data: bytes


class Programs:
    """The loaded programs and their maps."""

    def __init__(
        self,
        *,
        sets: int = SETS,
        event_pages: int = EVENT_RING_PAGES,
        payload_pages: int = PAYLOAD_RING_PAGES,
        replay: bool = False,
        filtered: bool = False,
        packet_pages: int = 0,
    ) -> None:
        """`replay` builds the programs with -DREPLAY: then `run` takes the time of a tc packet.

        `filtered` builds them with -DFILTER: no SYN opens a handshake until `set_filter` selects some; `packet_pages`
        with -DPACKETS: `packets` has the handshakes' own packets.
        """
        # Not at the top of the file: it maps LLVM, and the decoder's tests do without.
        os.environ["BCC_KERNEL_SOURCE"] = str(BPF_FOLDER)
        from bcc import BPF

        cflags = [
            "-fno-strict-aliasing",
            f"-I{BPF_FOLDER}",
            f"-DSETS={sets}",
            f"-DHASH_KEY={HASH_KEY:#x}ULL",
            f"-DEVENT_RING_PAGES={event_pages}",
            f"-DPAYLOAD_RING_PAGES={payload_pages}",
            "-DREPLAY" if replay else "-DWITH_XDP",
            *(["-DFILTER"] if filtered else []),
        ]
        if packet_pages:
            cflags += ["-DPACKETS", f"-DPACKET_RING_PAGES={packet_pages}"]
        names = ["tc_ingress", "tc_egress", "tc_uncommon", "tc_icmp", "tc_pair", "tc_payload", "sweep"]
        stages = [("tc_stages", ("tc_pair", "tc_icmp", "tc_payload", "tc_uncommon"))]
        if not replay:
            names += ["xdp_ingress", "xdp_uncommon", "xdp_icmp", "xdp_pair", "xdp_payload"]
            stages += [("xdp_stages", ("xdp_pair", "xdp_icmp", "xdp_payload", "xdp_uncommon"))]
        self.sets = sets
        self._b: Any = BPF(text=compiler.source().encode(), cflags=cflags)
        kinds = {"xdp": BPF.XDP, "tc": BPF.SCHED_CLS}
        self._fds = {
            name: int(self._b.load_func(name.encode(), kinds["xdp" if name.startswith("xdp") else "tc"]).fd)
            for name in names
        }
        for table, programs in stages:
            for slot, name in enumerate(programs):
                self._b[table.encode()][ctypes.c_int(slot)] = ctypes.c_int(self._fds[name])
        with_packets = packet_pages > 0
        self.event_dtype = to_dtype(struct("handshake_event"))
        self.payload_dtype = to_dtype(struct("payload_event"))
        self._sweep_dtype = to_dtype(struct("sweep_state", packets=with_packets))
        self.counter_names = tuple(one.name for one in struct("counters", packets=with_packets).fields)
        self._set_dtype = np.dtype(self._b[b"flows"].Leaf)
        self._events = Ring(self._b[b"events"].map_fd, event_pages)
        self._payloads = Ring(self._b[b"payloads"].map_fd, payload_pages)
        self._packets: Ring | None = None
        if packet_pages:
            self._packets = Ring(self._b[b"packets"].map_fd, packet_pages)
            self.packet_dtype = to_dtype(struct("packet_event", packets=True))
        self._frame = ctypes.create_string_buffer(65536)
        self._frame_at = ctypes.addressof(self._frame)
        self._ctx = ctypes.create_string_buffer(_SKB_CTX_LEN)
        self._attr = _TestRunAttr(data_in=self._frame_at, repeat=1)
        self._key = ctypes.c_uint32(0)
        # One after another, each rounded up to 8 bytes (kernel/bpf/arraymap.c, bpf_percpu_array_copy()).
        self._cpus = np.zeros((possible_cpus(), (self._value_size("cpus") + 7) // 8), np.uint64)
        self._cpus_attr = self._element("cpus", self._cpus.ctypes.data)
        self.response_timeout_ns = 5 * NS_PER_S
        self.write("config", 0, self.response_timeout_ns.to_bytes(8, "little"))
        self.interface(LOOPBACK)

    def set_filter(self, wanted: PacketFilter, *, replay: bool = False, xdp: bool = True) -> None:
        """Only SYNs that match open handshakes from now on."""
        hooks = ("tc", "xdp") if xdp else ("tc",)
        for hook in hooks:
            maps = {name: self._b[name.encode()].map_fd for name in ("filter_states", f"{hook}_stages")}
            for slot, fd in filter_program.load(wanted, hook, replay=replay, maps=maps).items():
                self._b[f"{hook}_stages".encode()][ctypes.c_int(slot)] = ctypes.c_int(fd)
                os.close(fd)

    def _value_size(self, table: str) -> int:
        # Not by bcc's Leaf: of a per-CPU map that is an array of all CPUs' values.
        lines = Path(f"/proc/self/fdinfo/{self._b[table.encode()].map_fd}").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("value_size"))

    def _element(self, table: str, value: int) -> _ElementAttr:
        return _ElementAttr(map_fd=self._b[table.encode()].map_fd, key=ctypes.addressof(self._key), value=value)

    def write(self, table: str, key: int, value: bytes) -> None:
        """Sets one element of an array or hash map with 32-bit keys."""
        buffer = ctypes.create_string_buffer(value, len(value))
        self._key.value = key
        _bpf(_BPF_MAP_UPDATE_ELEM, self._element(table, ctypes.addressof(buffer)))
        self._key.value = 0

    def interface(self, ifindex: int, *, group: int = 0, traced: bool = True, no_link_header: bool = False) -> None:
        """Says how packets of an interface are treated (`struct interface_config`)."""
        ids = group.to_bytes(4, "little") + ifindex.to_bytes(4, "little")
        self.write("interfaces_near", ifindex, ids + bytes([traced, no_link_header, 0, 0]))

    def run(self, road: Road, frame: bytes, ifindex: int = LOOPBACK, at_ns: int = 0, wire_len: int = 0) -> None:
        """One frame through one program, at `at_ns` where built for replay. Checks what the program returns.

        `wire_len`: bytes that a frame cut by a capture had.

        Raises OSError where the kernel refuses the frame.
        """
        attr = self._attr
        ctypes.memmove(self._frame_at, frame, len(frame))
        attr.prog_fd = self._fds[road.value]
        attr.data_size_in = len(frame)
        attr.data_size_out = 0  # the kernel leaves the last size here and would take it for a limit
        attr.ctx_size_in = 0
        attr.ctx_in = 0
        if ifindex != LOOPBACK or at_ns:
            ctypes.memset(self._ctx, 0, _SKB_CTX_LEN)
            fields = ctypes.cast(self._ctx, ctypes.POINTER(ctypes.c_uint32))
            if road is Road.XDP:
                fields[1] = len(frame)
                fields[3] = ifindex
            else:
                fields[_SKB_IFINDEX_OFFSET // 4] = ifindex
                fields[_SKB_WIRE_LEN_OFFSET // 4] = wire_len
                fields[_SKB_TSTAMP_OFFSET // 4] = at_ns & 0xFFFFFFFF
                fields[_SKB_TSTAMP_OFFSET // 4 + 1] = at_ns >> 32
            attr.ctx_size_in = _XDP_CTX_LEN if road is Road.XDP else _SKB_CTX_LEN
            attr.ctx_in = ctypes.addressof(self._ctx)
        _bpf(_BPF_PROG_TEST_RUN, attr)
        # XDP_PASS; TC_ACT_UNSPEC: every packet goes on.
        assert attr.retval == (2 if road is Road.XDP else 0xFFFFFFFF), f"{road} returned {attr.retval}"

    def sweep(self, *, now_ns: int = 0, flush: bool = False) -> int:
        """One round over all sets at `now_ns` (0: by the clock). Returns how many entries are still open."""
        state = self.sweep_state()
        state["now_ns"], state["cursor"], state["flush"], state["live"] = now_ns, 0, flush, 0
        self.write("sweep_states", 0, state.tobytes())
        frame = ctypes.create_string_buffer(64)
        _bpf(
            _BPF_PROG_TEST_RUN,
            _TestRunAttr(
                prog_fd=self._fds["sweep"], data_in=ctypes.addressof(frame), data_size_in=64, repeat=self.sets
            ),
        )
        state = self.sweep_state()
        assert state["cursor"] == self.sets
        return int(state["live"])

    def sweep_state(self) -> Any:
        """The current `struct sweep_state`."""
        value = np.zeros((), self._sweep_dtype)
        _bpf(_BPF_MAP_LOOKUP_ELEM, self._element("sweep_states", value.ctypes.data))
        return value

    def packet_counters(self) -> Any:
        """Sums over the CPUs in the order of `counter_names`, without those of the sweep."""
        _bpf(_BPF_MAP_LOOKUP_ELEM, self._cpus_attr)
        return self._cpus[:, : len(self.counter_names)].sum(axis=0)

    def counters(self) -> dict[str, int]:
        """All counters, those of the sweep included."""
        swept = self.sweep_state()["counters"]
        sums = self.packet_counters()
        return {name: int(sums[i]) + int(swept[name]) for i, name in enumerate(self.counter_names)}

    def flow_set(self, index: int) -> Any:
        """`struct flow_set` number `index`."""
        value = np.zeros((), self._set_dtype)
        self._key.value = index
        _bpf(_BPF_MAP_LOOKUP_ELEM, self._element("flows", value.ctypes.data))
        self._key.value = 0
        return value

    def tags(self, index: int) -> int:
        """The eight tags of a set in one number."""
        value = ctypes.c_uint64()
        self._key.value = index
        _bpf(_BPF_MAP_LOOKUP_ELEM, self._element("tags", ctypes.addressof(value)))
        self._key.value = 0
        return value.value

    def events(self) -> Any:
        """The handshake records since the last call, as a structured array of the C struct's fields."""
        records = self._events.read()
        return np.frombuffer(b"".join(record[: self.event_dtype.itemsize] for record in records), self.event_dtype)

    def payloads(self) -> list[Payload]:
        """The payload records since the last call."""
        found = []
        fields = self.payload_dtype.fields
        assert fields is not None
        data_at = fields["data"][1]
        for record in self._payloads.read():
            head = np.frombuffer(record.ljust(self.payload_dtype.itemsize, b"\0"), self.payload_dtype, 1)[0]
            captured = int(head["captured"])
            assert len(record) == data_at + captured
            found.append(Payload(int(head["id"]), int(head["len"]), record[data_at : data_at + captured]))
        return found

    def packets(self) -> Any:
        """The packets since the last call, as a structured array of the C struct's fields."""
        assert self._packets is not None
        records = self._packets.read()
        return np.frombuffer(b"".join(record[: self.packet_dtype.itemsize] for record in records), self.packet_dtype)

    def drain(self) -> None:
        """Settles everything and throws away what the rings hold: a clean table for the next test."""
        self.sweep(flush=True)
        self._events.read()
        self._payloads.read()
        if self._packets is not None:
            self._packets.read()

    def close(self) -> None:
        """Gives programs and maps back."""
        self._events.close()
        self._payloads.close()
        if self._packets is not None:
            self._packets.close()
        self._b.cleanup()


def imbalance(before: dict[str, int], after: dict[str, int], live: int, live_before: int = 0) -> int:
    """What is missing from opened = emitted + lost + evicted + suppressed + still open; 0 is right."""
    delta = {name: after[name] - before[name] for name in after}
    return delta["opened"] - sum(delta[name] for name in BALANCE) - (live - live_before)
