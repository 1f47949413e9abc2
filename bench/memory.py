"""Memory of all processes of a run with --json."""

from __future__ import annotations

import time

from bench.common import Row, memory_of, process_tree
from tests.support.load import traced, wire

TARGET_BYTES = 50e6


def measure(quick: bool) -> list[Row]:
    """Rows for memory. The load is 1,000,000 handshakes, half of them with TLS data in the SYN."""
    count = 50_000 if quick else 1_000_000
    with wire() as hosts, traced(hosts.server, record=False) as run:
        time.sleep(1)  # let it become idle after start-up
        pids = process_tree(run.process.pid)
        idle = memory_of(pids)
        hosts.handshakes(count, processes=2, tfo_percent=50)
        time.sleep(1)
        busy = memory_of(pids)
    target = f"below {TARGET_BYTES / 1e6:.0f} MB private"
    return [
        Row(f"{len(pids)} processes, idle", idle.text(), target, idle.private < TARGET_BYTES),
        Row(f"the same after {count:,} handshakes", busy.text(), target, busy.private < TARGET_BYTES),
    ]
