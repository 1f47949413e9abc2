"""From exec to attached, warm, and where that time goes."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from bench.common import ROOT, Row, Spread
from tests.support.load import Traced, Wire, wire
from tracer.loader import cache

FIRST_TARGET_S = 1.0
KEPT_TARGET_S = 0.4

# The steps of the child that compiles or loads cached programs, each timed in a fresh process as in a run.
_STEPS = """
import json, sys, time
times = [("begin", time.monotonic())]
from tracer.loader import artifact, cache, load, process_offsets
times.append(("import of the loader", time.monotonic()))
options = load.LoadOptions()
key = load._cache_key(options)
if sys.argv[1] == "first":
    import bcc
    times.append(("import of bcc", time.monotonic()))
    made = load._compile(options, process_offsets.offset_flags())
    times.append(("compile", time.monotonic()))
    fds, maps = artifact.load(made, artifact.random_hash_key())
    times.append(("load (verifier)", time.monotonic()))
    cache.store(key, made, cache.DIRECTORY)
    times.append(("keep it for the next start", time.monotonic()))
else:
    kept = cache.fetch(key, cache.DIRECTORY)
    times.append(("find what was kept", time.monotonic()))
    fds, maps = artifact.load(kept, artifact.random_hash_key())
    times.append(("load (verifier)", time.monotonic()))
from tracer.linux import interfaces
from tracer.attach.attach import Programs, attach
from tracer.vocabulary.vocabulary import HookChoice
times.append(("import of the rest", time.monotonic()))
attachment = attach(interfaces.find("eth0"), Programs(fds["tc_ingress"], fds["tc_egress"], None), HookChoice.AUTO, None)
times.append(("attach", time.monotonic()))
attachment.detach()
print(json.dumps({name: at - before for (_, before), (name, at) in zip(times, times[1:])}))
"""


def measure(quick: bool) -> list[Row]:
    """Rows for start-up: the first one after a boot, which compiles, and later ones."""
    runs = 2 if quick else 10
    rows: list[Row] = []
    with wire() as hosts:
        for what, target in (("first", FIRST_TARGET_S), ("kept", KEPT_TARGET_S)):
            rows += _rows(hosts, what, target, runs, 1 if quick else runs)
    return rows


def _rows(hosts: Wire, what: str, target: float, runs: int, steps_runs: int) -> list[Row]:
    whole: list[float] = []
    steps: dict[str, list[float]] = {}
    for attempt in range(runs + 1):
        if what == "first":
            _forget_kept()
        took = _start(hosts)
        if attempt:  # the first one warms the page cache
            whole.append(took)
    for _ in range(steps_runs):
        words = ["nsenter", f"--net={hosts.server.path}", sys.executable, "-c", _STEPS, what]
        done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
        for name, seconds in json.loads(done.stdout).items():
            steps.setdefault(name, []).append(seconds)
    spread = Spread.of(whole)
    title = "compiling" if what == "first" else "programs kept from an earlier start"
    rows = [Row(f"exec of ./tfotrace to ready file, warm, {title}, {runs} runs", f"{spread.text()} s",
                f"below {target:.1f} s", spread.median < target)]  # fmt: skip
    rows += [Row(f"of that, in a process of its own: {name}", f"{Spread.of(times).text(3)} s")
             for name, times in steps.items()]  # fmt: skip
    return rows


def _start(hosts: Wire) -> float:
    """Seconds from exec to attached."""
    run = Traced(hosts.server, launcher=(str(ROOT / "tfotrace"),))
    try:
        run.wait_ready()
        return time.monotonic() - run.began
    finally:
        run.close()


def _forget_kept() -> None:
    for path in cache.DIRECTORY.glob("*"):
        path.unlink(missing_ok=True)
