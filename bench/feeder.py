"""Handshakes into a tfotrace that runs, at a steady rate, where no TCP stack of this machine could make as many.

    nsenter --net=... python -m bench.feeder PROGRAM_ID INTERFACE_INDEX RATE SECONDS

The attached program is run by BPF_PROG_TEST_RUN as if the frames had come in at the interface; everything behind it is
as always. Prints one line of JSON: handshakes sent, seconds it took, and the longest time it fell behind its schedule.
"""

from __future__ import annotations

import json
import sys
import time

from bench.walk import Walk, handshake
from tracer import bpfsys

TICK_S = 0.01


def feed(program_id: int, ifindex: int, rate: int, seconds: float) -> dict[str, float]:
    """Send; returns what is to be printed."""
    program = bpfsys.program_by_id(program_id)
    segments = handshake()
    sent, behind = 0, 0.0
    with Walk("tc", ifindex) as walk:
        began = time.monotonic()
        while (at := time.monotonic() - began) < seconds:
            due = int(at * rate) - sent
            if due < rate * TICK_S:
                time.sleep(TICK_S / 4)
                continue
            behind = max(behind, due / rate)
            walk.run(program, segments, sent, due)
            sent += due
        return {"sent": sent, "seconds": time.monotonic() - began, "behind_s": behind}


if __name__ == "__main__":
    print(json.dumps(feed(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))))
