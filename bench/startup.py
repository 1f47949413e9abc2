"""From exec to attached, warm, and where that time goes."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from bench.common import ROOT, Row, Spread
from tests.support.load import Traced, wire

TARGET_S = 1.0

# The steps of the child that compiles, each timed in a fresh process as in a run.
_STEPS = """
import json, os, sys, time
times = [("begin", time.monotonic())]
os.environ["BCC_KERNEL_SOURCE"] = sys.argv[1]
from tracer.load import BPF_DIR, SOURCE, LoadOptions, XDP_PROGRAMS
options = LoadOptions()
from bcc import BPF
times.append(("import of bcc", time.monotonic()))
bpf = BPF(text=(BPF_DIR / SOURCE).read_text(), cflags=options.flags())
times.append(("compile", time.monotonic()))
fds = {name: bpf.load_func(name, BPF.SCHED_CLS).fd for name in options.programs}
times.append(("load (verifier)", time.monotonic()))
from tracer import interfaces
from tracer.attach import Programs, attach
from tracer.vocabulary import HookChoice
times.append(("import of the rest", time.monotonic()))
attachment = attach(interfaces.find("eth0"), Programs(fds["tc_ingress"], fds["tc_egress"], None), HookChoice.AUTO, None)
times.append(("attach", time.monotonic()))
attachment.detach()
print(json.dumps({name: at - before for (_, before), (name, at) in zip(times, times[1:])}))
"""


def measure(quick: bool) -> list[Row]:
    """Rows for start-up."""
    runs = 3 if quick else 10
    whole: list[float] = []
    steps: dict[str, list[float]] = {}
    with wire() as hosts:
        for attempt in range(runs + 1):
            run = Traced(hosts.server, launcher=(str(ROOT / "tfotrace"),))
            try:
                run.wait_ready()
                took = time.monotonic() - run.began
            finally:
                run.close()
            if attempt:  # the first one warms the page cache
                whole.append(took)
        for _ in range(runs):
            words = ["nsenter", f"--net={hosts.server.path}", sys.executable, "-c", _STEPS, str(ROOT / "tracer/bpf")]
            done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
            for name, seconds in json.loads(done.stdout).items():
                steps.setdefault(name, []).append(seconds)
    spread = Spread.of(whole)
    rows = [Row(f"exec of ./tfotrace to ready file, warm, {runs} runs", f"{spread.text()} s", "below 1.0 s",
                spread.median < TARGET_S)]  # fmt: skip
    rows += [Row(f"of that, in a process of its own: {name}", f"{Spread.of(times).text(3)} s")
             for name, times in steps.items()]  # fmt: skip
    return rows
