"""Handshakes at the highest rate that this machine makes, for as long as asked: is one lost, does memory grow?

    python -m bench.soak [SECONDS]

Both CPUs make real handshakes between two namespaces, half of them with Fast Open and data, while `tfotrace --json`
writes every one to /dev/null. A line every ten seconds, and a verdict: 0 lost, and private memory of all processes at
no time more than 2 % above what it was after the first minute.
"""

from __future__ import annotations

import sys
import time

from bench.common import cpu_seconds, machine, memory_of, process_tree
from tests.support.load import traced, wire

CHUNK = 20_000
SETTLED_S = 60.0
SAMPLE_S = 10.0
GROWTH_MAX = 0.02


def main(seconds: float) -> int:
    """Returns 0 if nothing was lost and memory stayed flat."""
    print("\n".join(machine()), flush=True)
    made, settled, most, sampled = 0, 0, 0, 0.0
    with wire() as hosts, traced(hosts.server, record=False) as run:
        pids = process_tree(run.process.pid)
        began, cpu = time.monotonic(), cpu_seconds(pids)
        while (passed := time.monotonic() - began) < seconds:
            done = hosts.handshakes(CHUNK, processes=2, tfo_percent=50)
            made += done["connections"]
            private = memory_of(pids).private
            if passed >= min(SETTLED_S, seconds / 2):
                settled = settled or private
                most = max(most, private)
            if passed - sampled >= SAMPLE_S:
                sampled = passed
                print(f"{passed:6.0f} s  {made:12,} handshakes  {private / 1e6:6.1f} MB private", flush=True)
        took = time.monotonic() - began
        share = (cpu_seconds(pids) - cpu) / took
        said = run.stop().narration.strip().splitlines()[-1]
    growth = most / settled - 1 if settled else 0.0
    cpu_text = f"CPU of tfotrace {100 * share:.0f} % of a core"
    print(f"{made:,} handshakes in {took:.0f} s, {made / took:,.0f} a second; {cpu_text}")
    since = min(SETTLED_S, seconds / 2)
    first, top = settled / 1e6, most / 1e6
    print(f"private memory {first:.1f} MB after {since:.0f} s, at most {top:.1f} MB later: {100 * growth:+.1f} %")
    print(said)
    well = said.endswith("nothing lost") and settled > 0 and growth < GROWTH_MAX
    print("met" if well else "NOT met")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 600.0))
