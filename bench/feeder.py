"""Feeds handshakes into a running tfotrace at a steady rate that no TCP stack of this machine could reach.

    nsenter --net=... python -m bench.feeder PROGRAM_ID INTERFACE_INDEX RATE SECONDS

BPF_PROG_TEST_RUN runs the attached program as if the frames had arrived at the interface; everything after it is as
usual. A delayed feeder makes up for at most AT_ONCE_S, since a burst at full speed is not the requested rate. Prints
one line of JSON: handshakes sent, handshakes left out, and the seconds it took.
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
    """Send the handshakes; returns the line to print."""
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
