"""The part of a replay that needs root: runs the packets of a capture through the kernel programs at their times.

It loads the tc programs built with -DREPLAY and runs them with BPF_PROG_TEST_RUN; nothing is attached anywhere. The
user part reads the file and sends packets in two slots of shared memory; whatever they contain, nothing outside a
slot is read. Sweeps follow the capture's clock, as often as live tracing would sweep.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import select
import signal
import struct
import time
from dataclasses import dataclass, field
from types import FrameType

import numpy as np

from tracer.errors import CannotTraceError, ExitCode
from tracer.ipc.messages import Channel, Counters, Ended, Frames, FramesDone, Ready
from tracer.linux.bpfsys import syscall_number
from tracer.linux.libpcap import DUMP_HEADER, SNAPLEN_MAX
from tracer.loader.load import Loaded, Loader, LoadOptions
from tracer.ring.ringbuf import Ring
from tracer.root.kernel import Kernel
from tracer.root.part import SWEEP_S
from tracer.root.startup import LeaveError, await_loaded, end_by_signals, reporting

SLOTS = 2
SLOT_FULL = 4 << 20  # bytes: a slot with as many gets no more packets
COPY_PACKETS = 256  # copied at a time: so many of the largest size still fit behind SLOT_FULL
SLOT_SIZE = SLOT_FULL + COPY_PACKETS * (SNAPLEN_MAX + 16) + mmap.PAGESIZE

# a packet's word: number of its interface, bytes before its link header, bytes on the wire from there on, and whether
# the interface sent it
INTERFACES_MAX = 4095  # the programs find these numbers without hashing
GROUPS_MAX = (1 << 32) - 1
WORD_SKIP_SHIFT, SKIP_MAX = 12, 7
WORD_WIRE_SHIFT, WIRE_LEN_MAX = 15, 65535  # read.bpf.c: this or more; the kernel accepts no more
WORD_EGRESS = 1 << 31

FRAME_MIN = 15  # bytes: the kernel refuses an Ethernet header with nothing behind it
FRAME_MAX = 3500  # bytes: what fits an skb of one page; lengths come from the IP header
ROOM_EVERY = 64  # packets between checks of the rings: each may cause one record and one payload

_NS_PER_S = 1_000_000_000
_SWEEP_NS = int(SWEEP_S * _NS_PER_S)
_QUIET_NS = 4 * _NS_PER_S  # nothing pending for so long: no sweep needed, for tombstones expire by themselves
_FINE_SWEEPS = 64  # in a gap without packets; later sweeps become rarer
_JUMP_BACK_NS = 10 * _NS_PER_S
_HEADER = struct.Struct("=IIII")
_PROG_TEST_RUN = 10
_CTX_LEN = 192  # struct __sk_buff
_MARK, _TSTAMP, _WIRE_LEN = 8 // 4, 152 // 8, 160 // 4


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What to load, when to give up a silent server, and the shared slots."""

    load: LoadOptions
    response_timeout_s: float
    slots: tuple[int, ...]


def make_slots() -> tuple[int, ...]:
    """Shared memory of a sealed size: neither part can shrink it while the other uses it."""
    fds = []
    for _ in range(SLOTS):
        fd = os.memfd_create("tfotrace-packets", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, SLOT_SIZE)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        fds.append(fd)
    return tuple(fds)


def run(request: ReplayRequest, channel: Channel, loader: Loader) -> int:
    """Body of the root process; returns its exit status. The user part is told of every failure."""

    def work() -> None:
        part = ReplayPart(request, channel, await_loaded(loader, channel))
        end_by_signals(part.on_signal)
        part.serve()

    return reporting(channel, work)


@dataclass(slots=True)
class _Sweeps:
    """When to sweep on the capture's clock. Times are nanoseconds."""

    next_ns: int = 0
    opened: int = 0
    live: int = 0
    active_ns: int = 0  # the last sweep that found anything
    swept_ns: int = 0


@dataclass(slots=True)
class ReplayPart:
    """State of the root process."""

    request: ReplayRequest
    channel: Channel
    loaded: Loaded
    asked_to_end: str | None = None
    _kernel: Kernel = field(init=False)
    _events: Ring = field(init=False)
    _payloads: Ring = field(init=False)
    _slots: list[mmap.mmap] = field(init=False)
    _bases: list[int] = field(init=False)
    _sweeps: _Sweeps = field(default_factory=_Sweeps)
    _hang_up: select.poll = field(default_factory=select.poll)
    _next_counters: float = 0.0
    _now_ns: int = 0

    def __post_init__(self) -> None:
        load = self.request.load
        self._kernel = Kernel(self.loaded)
        self._kernel.configure(self.request.response_timeout_s)
        self._events = Ring(self.loaded.maps["events"], load.event_ring_bytes, writable=False)
        self._payloads = Ring(self.loaded.maps["payloads"], load.payload_ring_bytes, writable=False)
        self._slots = [mmap.mmap(fd, SLOT_SIZE, mmap.MAP_SHARED, mmap.PROT_READ) for fd in self.request.slots]
        self._bases = [np.frombuffer(slot, np.uint8).ctypes.data for slot in self._slots]
        self._hang_up.register(self.channel.fileno(), 0)  # errors and hang-ups are always reported

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        """SIGTERM and SIGHUP to this process end the replay."""
        self.asked_to_end = f"the root part got {signal.Signals(number).name}"

    def serve(self) -> None:
        """Run what the user part sends, until it says stop or has gone."""
        load = self.request.load
        rings = [self.loaded.maps["events"], self.loaded.maps["payloads"]]
        self.channel.send(
            Ready([], load.transport, load.event_ring_bytes, load.payload_ring_bytes,
                  load.table_size),
            rings,
        )  # fmt: skip
        poll = select.poll()
        poll.register(self.channel.fileno(), select.POLLIN)
        while self.asked_to_end is None:
            if not poll.poll(250):
                continue
            message = self.channel.from_user()
            if message is None:
                return
            if not isinstance(message, Frames):
                break
            self._run(message)
        self._kernel.now_ns = self._now_ns
        self._kernel.flush(lambda: not self._user_has_left())
        code = ExitCode.ENDED_EARLY if self.asked_to_end else ExitCode.OK
        self.channel.send(Ended(self._kernel.counters(), self._kernel.still_open, self.asked_to_end, int(code)))

    def _run(self, frames: Frames) -> None:
        if not 0 <= frames.slot < len(self._slots) or not 0 <= frames.end <= SLOT_SIZE:
            raise CannotTraceError("the user part sent what it cannot have read")
        for one in frames.interfaces:
            if not 0 < one.number <= INTERFACES_MAX or not 0 <= one.group <= GROUPS_MAX:
                raise CannotTraceError("the user part named an interface that cannot be")
            self._kernel.trace_interface(one.number, one.group, one.ethernet)
        packets, refused = self._run_slot(self._slots[frames.slot], self._bases[frames.slot], frames)
        self.channel.send(FramesDone(frames.slot, packets, refused))
        if time.monotonic() >= self._next_counters:
            self._next_counters = time.monotonic() + SWEEP_S
            self.channel.offer(Counters(self._kernel.counters(), self._kernel.still_open))

    def _run_slot(self, slot: mmap.mmap, base: int, frames: Frames) -> tuple[int, int]:
        """The hot loop: every microsecond here is one a packet."""
        ingress, egress = self.loaded.programs["tc_ingress"], self.loaded.programs["tc_egress"]
        attr, ctx = ctypes.create_string_buffer(128), ctypes.create_string_buffer(_CTX_LEN)
        fields, wide = memoryview(attr).cast("B").cast("I"), memoryview(attr).cast("B").cast("Q")
        marks, times = memoryview(ctx).cast("B").cast("I"), memoryview(ctx).cast("B").cast("Q")
        fields[8] = 1  # repeat
        fields[10] = _CTX_LEN
        wide[6] = ctypes.addressof(ctx)
        syscall, unpack = _syscall(), _HEADER.unpack_from
        number, command, address, size = syscall_number(), _PROG_TEST_RUN, ctypes.addressof(attr), len(attr)
        position, end, said = DUMP_HEADER, frames.end, frames.word
        packets = refused = 0
        now_ns = self._now_ns
        next_sweep = self._sweeps.next_ns
        while position + 16 <= end:
            seconds, nanoseconds, captured, word = unpack(slot, position)
            start = position + 16
            position = start + captured
            if position > end:
                break  # not what a Dump writes
            packets += 1
            if said:
                skip = said >> WORD_SKIP_SHIFT & SKIP_MAX
                wire, word = word - skip, said  # the word still holds the original length
            else:
                skip = word >> WORD_SKIP_SHIFT & SKIP_MAX
                wire = word >> WORD_WIRE_SHIFT & WIRE_LEN_MAX
            length = captured - skip
            if length < FRAME_MIN:
                refused += 1
                continue
            now_ns = seconds * _NS_PER_S + nanoseconds or 1  # 0 would mean: ask the clock
            if now_ns >= next_sweep or now_ns < next_sweep - _JUMP_BACK_NS:
                next_sweep = self._reach(now_ns)
            if packets % ROOM_EVERY == 0:
                self._wait_for_room()
            fields[0] = egress if word & WORD_EGRESS else ingress
            fields[2] = min(FRAME_MAX, length)
            fields[3] = 0  # the kernel leaves the last size here, and would read it as a limit
            wide[2] = base + start + skip
            marks[_MARK] = word & INTERFACES_MAX
            times[_TSTAMP] = now_ns
            if not length <= wire <= WIRE_LEN_MAX:  # some writers leave it 0
                wire = min(max(wire, length), WIRE_LEN_MAX)
            marks[_WIRE_LEN] = wire
            if syscall(number, command, address, size) < 0:
                code = ctypes.get_errno()
                if code != errno.EINVAL:
                    raise OSError(code, os.strerror(code))
                refused += 1
        self._now_ns = now_ns
        return packets, refused

    # --- time ---

    def _reach(self, now_ns: int) -> int:
        """Sweep what was due before `now_ns`; returns when to sweep next."""
        sweeps = self._sweeps
        if not sweeps.next_ns or now_ns < sweeps.next_ns:  # the first packet, or the clock went back
            sweeps.next_ns = now_ns + _SWEEP_NS
            sweeps.swept_ns = sweeps.active_ns = now_ns
            return sweeps.next_ns
        opened = self._kernel.counters()["opened"]
        quiet = opened == sweeps.opened and not sweeps.live and sweeps.swept_ns - sweeps.active_ns > _QUIET_NS
        due, last, step = sweeps.next_ns, now_ns - (now_ns - sweeps.next_ns) % _SWEEP_NS, _SWEEP_NS
        if not quiet:
            if opened != sweeps.opened:
                sweeps.active_ns = due
            sweeps.opened, sweeps.live = opened, 1
            count = 0
            while due < last and sweeps.live:
                self._sweep(due)
                count += 1
                if count > _FINE_SWEEPS:
                    step *= 2
                due += step
            self._sweep(last)
        sweeps.next_ns = last + _SWEEP_NS
        return sweeps.next_ns

    def _sweep(self, at_ns: int) -> None:
        self._kernel.now_ns = at_ns
        self._sweeps.live = self._kernel.sweep(self._wait_for_room)
        self._sweeps.swept_ns = at_ns
        if self._sweeps.live:
            self._sweeps.active_ns = at_ns

    # --- the reader ---

    def _wait_for_room(self) -> None:
        """Wait for a slow reader, so that a replay loses nothing."""
        while self._events.fill > self._events.size // 2 or self._payloads.fill > self._payloads.size // 2:
            if self.asked_to_end is not None or self._user_has_left():
                raise LeaveError
            time.sleep(0.0005)

    def _user_has_left(self) -> bool:
        return bool(self._hang_up.poll(0))


def _syscall() -> ctypes._NamedFuncPointer:
    """syscall(2) with the arguments of bpf(2): command, attribute, size."""
    function = ctypes.CDLL(None, use_errno=True).syscall
    function.restype = ctypes.c_long
    function.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_ulong)
    return function
