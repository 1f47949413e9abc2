"""What single operations cost a packet: look-ups, clock, lock, record, tail call. No program can cost less."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

from bench.common import Row
from bench.walk import RingReset
from tracer.ipc.event_header import BPF_DIR
from tracer.linux import bpfsys

SOURCE = Path(__file__).with_name("floors.bpf.c")
RING_BYTES = 2048 * 4096
REPEAT = 20_000
# program name: what it does
_THINGS = {
    "hash look-up": "floor_hash",
    "array look-up": "floor_array",
    "counter of this CPU": "floor_counter",
    "tail call": "floor_jump",
    "reading the clock": "floor_clock",
    "taking and releasing a lock": "floor_lock",
    "record into the ring, place reserved": "floor_record",
    "record into the ring, copied by the helper": "floor_output",
}
# a handshake: the clock and the lock of its entry for each of four packets, and one record
_HANDSHAKE = {"reading the clock": 4, "taking and releasing a lock": 4, "record into the ring, place reserved": 1}


class Floors:
    """A context with the loaded programs."""

    def __enter__(self) -> Floors:
        os.environ["BCC_KERNEL_SOURCE"] = str(BPF_DIR)
        from bcc import BPF  # type: ignore[import-untyped,unused-ignore]

        self._bpf: Any = BPF(text=SOURCE.read_text(), cflags=[f"-I{BPF_DIR}"])
        self._fds = {name: self._bpf.load_func(name, BPF.SCHED_CLS).fd for name in ("floor_empty", *_THINGS.values())}
        bpfsys.map_update_elem(self._bpf["next"].map_fd, bytes(4), struct.pack("=I", self._fds["floor_empty"]))
        self._ring = RingReset(self._bpf["ring"].map_fd)
        self._found: dict[str, int] = {}
        return self

    def __exit__(self, *_: object) -> None:
        self._ring.close()
        self._bpf.cleanup()

    def above_empty(self, thing: str, rounds: int) -> int:
        """Nanoseconds above the empty program; the minimum of alternating rounds."""
        if thing not in self._found:
            empty = cost = 1 << 31
            for _ in range(rounds):
                empty = min(empty, self._run("floor_empty"))
                cost = min(cost, self._run(_THINGS[thing]))
            self._found[thing] = max(1, cost - empty)
        return self._found[thing]

    def _run(self, program: str) -> int:
        self._ring.empty()
        return bpfsys.prog_test_run(self._fds[program], bytes(64), repeat=REPEAT).duration_ns

    def rows(self, rounds: int) -> list[Row]:
        """A row for each, and one for the minimum of a handshake."""
        rows = [Row(f"alone: {thing}", f"+{self.above_empty(thing, rounds)} ns") for thing in _THINGS]
        floor = sum(count * self._found[thing] for thing, count in _HANDSHAKE.items())
        parts = ", ".join(f"{count} x {thing}" for thing, count in _HANDSHAKE.items())
        return [*rows, Row(f"the least for a handshake: {parts}", f"+{floor} ns")]
