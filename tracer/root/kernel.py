"""Runs the loaded programs: fills their maps, sweeps the pending table, reads the counters. Root part only."""

from __future__ import annotations

import errno
import struct
import time
from collections.abc import Callable

from tracer.ipc import event_header
from tracer.linux import bpfsys
from tracer.linux.patience import FACTOR
from tracer.loader.load import NEAR_INTERFACES, Loaded
from tracer.ring.ringbuf import Ring
from tracer.vocabulary.vocabulary import Transport

_KEY = bytes(4)  # key of one-element arrays
# BPF_PROG_TEST_RUN needs at least an Ethernet header; the sweep does not read it
_DUMMY_FRAME = bytes(64)
_SWEEP_CHUNK = 1024  # sets: at most 8,192 records, a third of the ring
_FLUSH_CHUNK = 256  # sets: at most 2,048 records
_FLUSH_CHUNK_PERF = 64  # all of them go into the buffer of the one CPU that sweeps
_FLUSH_PAUSE_PERF_S = 0.03
_FEW_INTERFACES = 64  # more are never one group
_ASKED_MAX = 1024
_TAGS_LEN = 8  # one byte for each entry of a set
_FLUSH_PATIENCE_S = 3.0 * FACTOR
_INTERFACE, _CONFIG = event_header.struct("interface_config"), event_header.struct("config")


def _u32(value: int) -> bytes:
    return struct.pack("<I", value)


class Kernel:
    """Maps and the sweep of one loaded set of programs. Times are seconds where a name ends in _s."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        packets = loaded.options.packets
        self._cpu, self._sweep, self._counters = (
            event_header.struct(name, packets=packets) for name in ("cpu", "sweep_state", "counters")
        )
        self._groups: dict[int, int] = {}  # of traced interfaces, by index
        self._near: dict[int, int] = {}  # who has a slot, by its number
        self._only_group = 0
        self._response_timeout_s = 0.0
        self.still_open = 0
        self.now_ns = 0  # of the next sweep; 0: now. A replay sets the capture's time

    def configure(self, response_timeout_s: float) -> None:
        """Set the configuration that the programs read."""
        self._response_timeout_s = response_timeout_s
        self._write_config()

    def _write_config(self) -> None:
        value = _CONFIG.pack(response_timeout_ns=int(self._response_timeout_s * 1e9), only_group=self._only_group)
        bpfsys.map_update_elem(self.loaded.maps["config"], _KEY, value)

    def _note_groups(self) -> None:
        few = len(self._groups) <= _FEW_INTERFACES
        groups = set(self._groups.values()) if few else set()
        only = groups.pop() if len(groups) == 1 else 0
        if only != self._only_group:
            self._only_group = only
            self._write_config()

    def trace_interface(self, index: int, group: int, has_ethernet_header: bool) -> None:
        """Trace packets of this interface from now on, in this group.

        Raises OSError (E2BIG) if there is no room for it: its slot is taken, and FAR_INTERFACES others had that, too.
        """
        value = _INTERFACE.pack(group=group, ifindex=index, traced=1, no_link_header=not has_ethernet_header)
        slot = index % NEAR_INTERFACES
        if self._near.get(slot, index) == index:
            bpfsys.map_update_elem(self.loaded.maps["interfaces_near"], _u32(slot), value)
            self._near[slot] = index
        else:
            bpfsys.map_update_elem(self.loaded.maps["interfaces_far"], _u32(index), value)
        self._groups[index] = group
        self._note_groups()

    def ignore_interface(self, index: int) -> None:
        """Ignore packets of this interface from now on."""
        if self._groups.pop(index, None) is not None:
            self._note_groups()
        slot = index % NEAR_INTERFACES
        if self._near.get(slot) == index:
            bpfsys.map_update_elem(self.loaded.maps["interfaces_near"], _u32(slot), bytes(_INTERFACE.size))
            del self._near[slot]
        else:
            try:
                bpfsys.map_delete_elem(self.loaded.maps["interfaces_far"], _u32(index))
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise

    def are_open(self, entries: list[tuple[int, int]]) -> list[bool]:
        """Does the pending table have an entry with this tag in this set? The user part may ask for any."""
        return [self._is_open(number, tag) for number, tag in entries[:_ASKED_MAX]]

    def _is_open(self, number: int, tag: int) -> bool:
        if not 0 <= number < self.loaded.options.sets:
            return False
        return tag in bpfsys.map_lookup_elem(self.loaded.maps["tags"], _u32(number), _TAGS_LEN)

    def counters(self) -> dict[str, int]:
        """Every counter by its name in struct counters: the sum over CPUs and the sweep."""
        cpus = bpfsys.map_lookup_per_cpu(self.loaded.maps["cpus"], _KEY, self._cpu.size)
        parts = [self._counters.unpack(cpu) for cpu in cpus]
        start = self._sweep.field("counters").offset
        parts.append(self._counters.unpack(self._read_sweep()[start:]))
        return {name: sum(part[name] for part in parts) for name in parts[0]}

    def _read_sweep(self) -> bytes:
        return bpfsys.map_lookup_elem(self.loaded.maps["sweep_states"], _KEY, self._sweep.size)

    def _run_sweep(self, cursor: int, sets: int, flush: bool, live: int, now_ns: int) -> tuple[int, int]:
        """Sweep `sets` sets from `cursor`; returns the new cursor and the number of live entries so far."""
        value = bytearray(self._read_sweep())
        self._sweep.pack_into(value, now_ns=now_ns, cursor=cursor, flush=flush, live=live)
        bpfsys.map_update_elem(self.loaded.maps["sweep_states"], _KEY, bytes(value))
        try:
            bpfsys.prog_test_run(self.loaded.programs["sweep"], _DUMMY_FRAME, repeat=sets)
        except OSError as error:
            if error.errno not in (errno.EINTR, errno.EAGAIN):  # a signal came: the cursor says how far it got
                raise
        after = self._sweep.unpack(self._read_sweep())
        return after["cursor"], after["live"]

    def sweep(self, wait: Callable[[], None] | None = None) -> int:
        """Settle what is overdue; returns (and keeps) the number of entries that are still open.

        With `wait`, which waits for room, it sweeps in parts: all entries may be due at once.
        """
        sets = self.loaded.options.sets
        # one time for all: the two sides of a handshake that passes through here are to be settled together
        now_ns = self.now_ns or time.monotonic_ns()
        cursor = live = 0
        while cursor < sets:
            if wait is not None:
                wait()
            chunk = sets if wait is None else _SWEEP_CHUNK
            cursor, live = self._run_sweep(cursor, min(chunk, sets - cursor), False, live, now_ns)
        self.still_open = live
        return live

    def flush(self, reader_alive: Callable[[], bool]) -> None:
        """Settle every open entry as it is, no faster than the reader takes records out of the ring."""
        sets = self.loaded.options.sets
        cursor = 0
        ring = self._event_ring()
        while cursor < sets:
            if ring is not None:
                self._wait_for_room(ring, reader_alive)
            chunk = _FLUSH_CHUNK if ring is not None else _FLUSH_CHUNK_PERF
            emitted = self.counters()["emitted"] if ring is None else 0
            cursor, _ = self._run_sweep(cursor, min(chunk, sets - cursor), True, 0, self.now_ns)
            if ring is None and self.counters()["emitted"] > emitted:
                time.sleep(_FLUSH_PAUSE_PERF_S)  # this process cannot see how full a perf buffer is
        if ring is not None:
            ring.close()
        self.sweep()

    def _event_ring(self) -> Ring | None:
        options = self.loaded.options
        if options.transport is not Transport.RING:
            return None
        return Ring(self.loaded.maps["events"], options.event_ring_bytes, writable=False)

    def _wait_for_room(self, ring: Ring, reader_alive: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _FLUSH_PATIENCE_S
        while ring.fill > ring.size // 2 and time.monotonic() < deadline and reader_alive():
            time.sleep(0.002)
