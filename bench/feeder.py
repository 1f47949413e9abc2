"""Handshakes into a tfotrace that runs, at a steady rate, where no TCP stack of this machine could make as many.

    nsenter --net=... python -m bench.feeder PROGRAM_ID INTERFACE_INDEX RATE SECONDS

The attached program is run by BPF_PROG_TEST_RUN as if the frames had come in at the interface; everything behind it is
as always. A feeder that was kept waiting makes up for at most AT_ONCE_S: a burst at full speed is not the rate that was
asked for. Prints one line of JSON: handshakes sent, how many were left out, and the seconds it took.
"""

from __future__ import annotations

import json
import sys
import time

from bench.walk import Walk, handshake
from tracer.linux import bpfsys

TICK_S = 0.01
AT_ONCE_S = 0.05


def feed(program_id: int, ifindex: int, rate: int, seconds: float) -> dict[str, float]:
    """Send; returns what is to be printed."""
    program = bpfsys.program_by_id(program_id)
    segments = handshake()
    sent = left_out = 0
    tick = max(1, int(rate * TICK_S))
    with Walk("tc", ifindex) as walk:
        began = time.monotonic()
        while (at := time.monotonic() - began) < seconds:
            due = int(at * rate) - sent - left_out
            if due < tick:
                time.sleep(TICK_S / 4)
                continue
            left_out += max(0, due - int(rate * AT_ONCE_S))
            walk.run(program, segments, sent, tick)
            sent += tick
        return {"sent": sent, "left_out": left_out, "seconds": time.monotonic() - began}


if __name__ == "__main__":
    print(json.dumps(feed(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))))
