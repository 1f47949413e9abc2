"""Handshakes at the highest rate of this machine, for a given time: is any lost, does memory grow?

    python -m bench.soak [SECONDS]

Both CPUs make real handshakes between two namespaces, half of them with Fast Open and data, while `tfotrace --json`
writes every one to /dev/null. It prints a line every ten seconds, and at the end the row of docs/RELIABILITY.md: 0
lost, and the memory of all processes in the last minute at most 2 % above that in the minute after the first one
(medians, since a sample may hit a large batch). Memory means private dirty pages: pages of files come and go with other
processes that run the same Python.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.common import cpu_seconds, end_cleanly, machine, process_tree
from tests.support.load import traced, wire

CHUNK = 20_000
MINUTE_S = 60.0
TOLD_S = 10.0
GROWTH_MAX = 0.02


def dirty_of(pids: Sequence[int]) -> int:
    """Private dirty memory of the processes, bytes."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Private_Dirty:"):
                total += int(line.split()[1]) * 1024
    return total


def main(seconds: float) -> int:
    """Returns 0 if nothing was lost and memory stayed flat."""
    print("\n".join(machine()), flush=True)
    window = min(MINUTE_S, seconds / 4)
    made, told, samples = 0, 0.0, list[tuple[float, int]]()
    with wire() as hosts, traced(hosts.server, record=False) as run:
        pids = process_tree(run.process.pid)
        began, cpu = time.monotonic(), cpu_seconds(pids)
        while (passed := time.monotonic() - began) < seconds:
            made += hosts.handshakes(CHUNK, processes=2, tfo_percent=50)["connections"]
            samples.append((time.monotonic() - began, dirty_of(pids)))
            if passed - told >= TOLD_S:
                told = passed
                each = ", ".join(f"{dirty_of([pid]) / 1e6:.1f}" for pid in pids)
                print(f"{passed:6.0f} s  {made:12,} handshakes  {samples[-1][1] / 1e6:6.1f} MB ({each})", flush=True)
        took = time.monotonic() - began
        share = (cpu_seconds(pids) - cpu) / took
        said = run.stop().narration.strip().splitlines()[-1].removeprefix("tfotrace: ")
    first = statistics.median(size for at, size in samples if window <= at <= 2 * window) / 1e6
    last = statistics.median(size for at, size in samples if at >= took - window) / 1e6
    growth, most = last / first - 1, max(size for _, size in samples) / 1e6
    well = said == "nothing lost" and growth < GROWTH_MAX
    verdict = "met" if well else "NOT met"
    print(
        f"| handshakes as fast as two CPUs make them | {took:.0f} s, {made / took:,.0f} a second: of {made:,} {said}; "
        f"{first:.1f} MB after {window:.0f} s, {last:.1f} MB at the end, {100 * growth:+.1f} %, at most {most:.1f} MB; "
        f"CPU of tfotrace {100 * share:.0f} % of a core; {verdict} | "
        f"0 lost, memory +{100 * GROWTH_MAX:.0f} % at most | `sudo make soak SECONDS={seconds:.0f}` |"
    )
    return 0 if well else 1


if __name__ == "__main__":
    end_cleanly()
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 600.0))
