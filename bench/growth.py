"""Does the cost grow with the number of pending handshakes, the size of the table, or the number of interfaces?

`nsenter --net=... python -m bench.growth` is the part inside a namespace with many interfaces.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from bench.common import ROOT, Row, empty_program, loaded_programs
from bench.packet_cost import UNRELATED, cheapest, data
from bench.walk import RingReset, Walk, handshake
from tests.support.load import Host
from tests.support.rawprog import SCHED_CLS, TC_ACT_UNSPEC
from tracer.linux import bpfsys
from tracer.linux.bpfsys import prog_test_run
from tracer.loader.load import LoadOptions

LOOPBACK = 1
TARGET_PERCENT = 20.0
UNDER_WAY = 500
SPREAD = 40  # times UNDER_WAY: measured connections, so that every turn uses other places of the table
INTERFACES = 50
TABLES = (65_536, 1_000_000, 1 << 24)


def measure(quick: bool) -> list[Row]:
    """Rows for each."""
    pending = [100, 10_000] if quick else [100, 10_000, 1_000_000]
    return [
        *_pending_rows(pending, 4 * pending[-1], 20 if quick else 120),
        *[_table_row(size) for size in (TABLES[:1] if quick else TABLES)],
        _interfaces_row(5 if quick else 20),
    ]


def _pending_rows(steps: list[int], table_size: int, rounds: int) -> list[Row]:
    """All use one table that is large enough for the largest: only its use differs."""
    segments = handshake()
    costs: list[int] = []
    nothing = empty_program(SCHED_CLS, TC_ACT_UNSPEC)
    with loaded_programs(LoadOptions(table_size=table_size)) as kernel, Walk("tc") as walk:
        kernel.trace_interface(LOOPBACK, 0, True)
        program = kernel.loaded.programs["tc_ingress"]
        there, turn = 0, 0
        with RingReset.of(kernel) as reset:

            def run(which: int) -> Callable[[], int]:
                def one() -> int:
                    nonlocal turn
                    reset()
                    turn += 1
                    return walk.run(which, segments, steps[-1] + turn % SPREAD * UNDER_WAY, UNDER_WAY)

                return one

            for step in steps:
                walk.run(program, segments[:1], there, step - there)  # SYNs that nobody answers
                there = step
                base, packet = cheapest(rounds, run(nothing), run(program))
                costs.append((packet - base) * len(segments))
        counters = kernel.counters()
        assert counters["lost"] == 0, counters
    os.close(nothing)
    evicted = counters["evicted_unanswered"]
    rows = [Row(f"handshake beside {step:,} pending ones", f"+{ns} ns") for step, ns in zip(steps, costs, strict=True)]
    growth = 100 * (costs[-1] / costs[0] - 1)
    return [*rows, Row(f"growth from {steps[0]:,} to {steps[-1]:,} pending, table of {table_size:,}",
                       f"{growth:+.0f} % ({evicted:,} evicted)", f"within {TARGET_PERCENT:.0f} %",
                       abs(growth) <= TARGET_PERCENT)]  # fmt: skip


def _table_row(size: int) -> Row:
    """A table has its full size from the start: the kernel's array maps do not grow, and are zeroed page by page."""
    options = LoadOptions(table_size=size)
    with loaded_programs(options):
        pass  # compiled and kept
    used, began = _cpu_of_children(), time.monotonic()
    with loaded_programs(options) as kernel:
        took, used = time.monotonic() - began, _cpu_of_children() - used
        maps = [bpfsys.map_get_info(kernel.loaded.maps[name]) for name in ("flows", "tags")]
        began_cpu = time.thread_time()
        kernel.sweep()
        sweep_s = time.thread_time() - began_cpu
    size_mb = sum(one.value_size * one.max_entries for one in maps) / 1e6
    return Row(f"--table-size {size}: kept programs loaded",
               f"{took:.2f} s ({used:.2f} s of CPU), {size_mb:,.0f} MB of kernel memory, "
               f"a sweep of it empty {1000 * sweep_s:.1f} ms (4 a second)")  # fmt: skip


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _interfaces_row(rounds: int) -> Row:
    host = Host("many")
    try:
        host.batch([f"link add v{i} type veth peer name w{i}" for i in range((INTERFACES + 1) // 2)])
        words = ["nsenter", f"--net={host.path}", sys.executable, "-m", "bench.growth", str(rounds)]
        done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
    finally:
        host.close()
    one, many = json.loads(done.stdout)
    return Row(f"unrelated data segment, of 1 interface and of {INTERFACES} in turn", f"{one:.1f} and {many:.1f} ns",
               f"within {TARGET_PERCENT:.0f} %", many <= one * (1 + TARGET_PERCENT / 100))  # fmt: skip


def _inside(rounds: int) -> None:
    """Nanoseconds per packet, including the test run itself: for one interface, and the mean over all."""
    indexes = [index for index, name in socket.if_nameindex() if name != "lo"][:INTERFACES]
    frame = data(UNRELATED)
    with loaded_programs(LoadOptions()) as kernel:
        program = kernel.loaded.programs["tc_ingress"]
        for index in indexes:
            kernel.trace_interface(index, index, True)

        def run(index: int) -> Callable[[], int]:
            context = bytes(40) + index.to_bytes(4, "little") + bytes(148)  # struct __sk_buff with its ifindex
            return lambda: prog_test_run(program, frame, context, 10_000).duration_ns

        times = cheapest(rounds, *map(run, indexes))
    print(json.dumps([times[0], sum(times) / len(times)]))


if __name__ == "__main__":
    _inside(int(sys.argv[1]))
