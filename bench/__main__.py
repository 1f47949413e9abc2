"""bench/run: runs all measurements and writes a table to standard output and bench/RESULTS.md."""

from __future__ import annotations

import argparse
import os
import sys
import time

from bench import (
    captures,
    dashboard,
    drops,
    fixed_rate,
    growth,
    handshake_rate,
    latency,
    memory,
    netlink,
    packet_cost,
    rates,
    replay_rate,
    report,
    startup,
    sustained,
    throughput,
)
from bench.common import ROOT, Row, end_cleanly, machine

SECTIONS = {
    "startup": ("Start to attached", startup),
    "memory": ("Memory of all processes", memory),
    "netlink": ("Netlink: own code beside pyroute2", netlink),
    "rates": ("Records through the user part, one thread", rates),
    "packet_cost": ("Cost of a packet (BPF_PROG_TEST_RUN)", packet_cost),
    "drops": ("Hearing why the kernel drops segments", drops),
    "growth": ("Growth of the cost", growth),
    "handshake_rate": ("Handshakes a second, beside the peers", handshake_rate),
    "fixed_rate": ("At a fixed rate: what the host pays, beside the peers", fixed_rate),
    "throughput": ("One bulk stream, beside the peers", throughput),
    "sustained": ("A steady rate, fed into the attached program", sustained),
    "captures": ("Files at 20,000 handshakes a second", captures),
    "replay_rate": ("Replay of a capture, beside the peers", replay_rate),
    "report": ("A page of a recording", report),
    "latency": ("Delay of a record", latency),
    "dashboard": ("The dashboard at 20,000 handshakes a second", dashboard),
}
MARKS = {None: "", True: "met", False: "NOT met"}


def table(rows: list[Row]) -> str:
    """Markdown that is readable as text."""
    cells = [["what", "measured", "target", ""], *([r.what, r.value, r.target, MARKS[r.met]] for r in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
             for line in cells]  # fmt: skip
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def main() -> int:
    """Run the sections given on the command line. A missed target is a line in the table, not a failure."""
    parser = argparse.ArgumentParser(prog="bench/run", description="Measure speed and memory.")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, under two minutes; writes no file")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"only these: {', '.join(SECTIONS)}")
    options = parser.parse_args()
    unknown = [name for name in options.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"no section {unknown[0]}: {', '.join(SECTIONS)}")
    if os.geteuid():
        parser.error("this loads BPF programs, which needs root: sudo make bench")
    end_cleanly()
    began = time.monotonic()
    parts = ["# Measurements of tfotrace\n", "\n".join(f"- {line}" for line in machine()) + "\n"]
    missed = 0
    print("\n".join(parts), flush=True)
    for name, (title, module) in SECTIONS.items():
        if options.sections and name not in options.sections:
            continue
        section_began = time.monotonic()
        rows = module.measure(options.quick)
        print(f"... {name} took {time.monotonic() - section_began:.0f} s", file=sys.stderr, flush=True)
        missed += sum(row.met is False for row in rows)
        parts.append(f"## {title}\n\n{table(rows)}\n")
        print(parts[-1], flush=True)
    print(f"took {time.monotonic() - began:.0f} s; targets not met: {missed}", file=sys.stderr)
    if not options.quick and not options.sections:
        (ROOT / "bench" / "RESULTS.md").write_text("\n".join(parts), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
