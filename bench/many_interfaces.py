"""How long `tfotrace any` takes to start and to end with thousands of interfaces: wall time, and CPU of its processes.

`python -m bench.many_interfaces [COUNT] [HOOK ...]` (3000, auto and clsact), as root. Interfaces are veth pairs in a
namespace of their own, with indexes from 100,001 on.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.common import machine, memory_of, process_tree
from tests.support.manylinks import FIRST_INDEX, add_links
from tests.support.netbox import NetBox

PATIENCE_S = 900.0
IDLE_S = 5.0


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cpu_so_far_s(pid: int) -> float:
    """Of the process and of all its living descendants."""
    total = 0
    for one in process_tree(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        total += sum(int(field) for field in fields[11:15])
    return total / os.sysconf("SC_CLK_TCK")


def _measure(box: NetBox, count: int, hook: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        ready, output = Path(folder, "ready"), Path(folder, "out.jsonl")
        where = ["any", "--json", "--hook", hook, "--netns", box.name, "--ready-file", str(ready)]
        words = [sys.executable, "-I", "-m", "tracer", *where]
        before_s, began = _children_cpu_s(), time.monotonic()
        with output.open("wb") as out, Path(folder, "err").open("wb") as err:
            process = subprocess.Popen(words, stdout=out, stderr=err, cwd="/")
            while not ready.exists():
                if process.poll() is not None or time.monotonic() - began > PATIENCE_S:
                    process.kill()
                    process.wait()
                    return f"{hook}: it did not start: " + Path(folder, "err").read_text()[-500:]
                time.sleep(0.01)
            start_s, start_cpu_s = time.monotonic() - began, _cpu_so_far_s(process.pid)
            time.sleep(IDLE_S)
            idle_cpu_s = _cpu_so_far_s(process.pid) - start_cpu_s
            memory = sum(memory_of([one]).private for one in process_tree(process.pid))
            asked = time.monotonic()
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=PATIENCE_S)
            end_s, whole_cpu_s = time.monotonic() - asked, _children_cpu_s() - before_s
        lines = output.read_bytes().splitlines()
        traced = len(json.loads(lines[0])["interfaces"])
        end = json.loads(lines[-1])
    return (
        f"{hook}: {traced:,} of {count:,} interfaces traced; start {start_s:.2f} s ({start_cpu_s:.2f} s of CPU), "
        f"idle {100 * idle_cpu_s / IDLE_S:.1f} % of a core, end {end_s:.2f} s ({whole_cpu_s:.2f} s of CPU in all), "
        f"{memory / 1e6:.0f} MB private; exit code {code}, last record {end['event']}"
    )


def main() -> None:
    """Measure and print."""
    words = sys.argv[1:]
    count = int(words[0]) if words else 3000
    print("; ".join(machine()))
    box = NetBox()
    try:
        began = time.monotonic()
        add_links(box, count)
        print(f"{count:,} interfaces (veth) from index {FIRST_INDEX:,} on, made in {time.monotonic() - began:.1f} s")
        for hook in words[1:] or ["auto", "clsact"]:
            print(_measure(box, count, hook), flush=True)
    finally:
        box.close()


if __name__ == "__main__":
    main()
