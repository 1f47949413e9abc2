"""Why the root part has netlink code of its own: that beside pyroute2, in a process as it is in a run."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from bench.common import ROOT, Row, Spread
from tests.support.load import Traced, Wire, wire

KEPT_TARGET_S = 0.4

# A fresh process that has imported what the root part has. It prints times in seconds and memory in bytes.
_ROOT_PART = """
import contextlib, json, os, sys, time
import tracer.root.part
from bench.common import memory_of
from tests.support.rawprog import SCHED_CLS, TC_ACT_UNSPEC, Counting
from tracer.attach import clsact
from tracer.linux import interfaces

def timed(work):
    private, began = memory_of([os.getpid()]).private, time.monotonic()
    work()
    return {"s": time.monotonic() - began, "bytes": memory_of([os.getpid()]).private - private}

def in_child(work):
    ends, end = os.pipe()
    began = time.monotonic()
    if os.fork() == 0:
        work()
        os._exit(0)
    os.close(end)
    os.read(ends, 1)
    os.close(ends)
    took = time.monotonic() - began
    assert os.wait()[1] == 0
    return {"s": took, "bytes": 0}

which = sys.argv[1]
indexes = [link.index for link in interfaces.all_interfaces() if link.name.startswith(which)]
program = Counting.make(SCHED_CLS, TC_ACT_UNSPEC, "bench").fd
sides = (clsact.PARENT_INGRESS, clsact.PARENT_EGRESS)
"""
_IMPORT = """
def work():
    import pyroute2
print(json.dumps({"import": timed(work)}))
"""
_ATTACH = """
pieces = []
def attach():
    for index in indexes:
        for parent in sides:
            pieces.append(clsact.ClsactFilter(index, parent == sides[1], program, "tfotrace-bench", lambda key: None))
def detach():
    for piece in pieces:
        piece.detach()
print(json.dumps({"attach": timed(attach), "detach": timed(detach)}))
"""
_ATTACH_IN_CHILD = """
names = {"handle": clsact._FIRST_HANDLE, "prio": 1, "protocol": 3}
def attach():
    from pyroute2.iproute import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError
    with IPRoute(ext_ack=True) as route:
        for index in indexes:
            with contextlib.suppress(NetlinkError):  # it is there
                route.tc("add", "clsact", index)
            for parent in sides:
                route.tc("add-filter", "bpf", index, fd=program, name="tfotrace-bench", parent=parent,
                         direct_action=True, **names)
def detach():
    from pyroute2.iproute import IPRoute
    with IPRoute(ext_ack=True) as route:
        for index in indexes:
            for parent in sides:
                route.tc("del-filter", "bpf", index, parent=parent, **names)
print(json.dumps({"attach": in_child(attach), "detach": in_child(detach)}))
"""
_DUMP = """
print(json.dumps({"dump": timed(interfaces.all_interfaces)}))
"""
_DUMP_BY_PYROUTE2 = """
from pyroute2.iproute import IPRoute
def work():
    with IPRoute(ext_ack=True) as route:
        route.get_links()
print(json.dumps({"dump": timed(work)}))
"""


def measure(quick: bool) -> list[Row]:
    """Rows for importing, attaching by clsact, and reading many interfaces."""
    runs = 2 if quick else 10
    pairs = 50 if quick else 1500
    some = 10 if quick else 100
    with wire() as hosts:
        rows = [
            Row("import of pyroute2 where the root part's modules are already", _text(hosts, _IMPORT, runs)["import"])
        ]
        rows += _attaching(hosts, "eth0", "one interface", runs)
        starts, ends = _clsact_runs(hosts, runs)
        _make_pairs(hosts, "some", some)
        rows += _attaching(hosts, "some", f"{some} interfaces", runs)
        _make_pairs(hosts, "many", pairs)
        own, pyroute2 = (_text(hosts, script, runs)["dump"] for script in (_DUMP, _DUMP_BY_PYROUTE2))
    start = Spread.of(starts)
    return [
        *rows,
        Row(f"exec of ./tfotrace --hook clsact to ready file, warm, programs kept, {runs} runs",
            f"{start.text()} s", f"below {KEPT_TARGET_S:.1f} s", start.median < KEPT_TARGET_S),
        Row("the same: SIGTERM to the end of both parts", f"{Spread.of(ends).text()} s"),
        Row(f"dump of {2 * (pairs + some) + 2:,} interfaces", own),
        Row("the same by pyroute2, import not counted", pyroute2),
    ]  # fmt: skip


def _attaching(hosts: Wire, which: str, words: str, runs: int) -> list[Row]:
    own, child = (_text(hosts, script, runs, which) for script in (_ATTACH, _ATTACH_IN_CHILD))
    return [
        Row(f"clsact filters, both sides of {words}: attach", own["attach"]),
        Row("the same: detach", own["detach"]),
        Row("by pyroute2 in a child that is forked for it: attach", child["attach"]),
        Row("the same: detach", child["detach"]),
    ]


def _make_pairs(hosts: Wire, name: str, pairs: int) -> None:
    lines = "".join(f"link add {name}{n} type veth peer name peer-{name}{n}\n" for n in range(pairs))
    words = ["nsenter", f"--net={hosts.server.path}", "ip", "-batch", "-"]
    subprocess.run(words, input=lines, text=True, check=True)


def _text(hosts: Wire, script: str, runs: int, which: str = "eth0") -> dict[str, str]:
    """What each step of a script cost, each time in a fresh process."""
    found: dict[str, list[dict[str, float]]] = {}
    words = ["nsenter", f"--net={hosts.server.path}", sys.executable, "-c", _ROOT_PART + script, which]
    for attempt in range(runs + 1):
        done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
        for name, cost in json.loads(done.stdout).items():
            if attempt:  # the first one warms the page cache
                found.setdefault(name, []).append(cost)
    return {name: _spread(costs) for name, costs in found.items()}


def _clsact_runs(hosts: Wire, runs: int) -> tuple[list[float], list[float]]:
    """Seconds to start and to end."""
    starts, ends = [], []
    for attempt in range(runs + 1):
        run = Traced(hosts.server, "--hook", "clsact", launcher=(str(ROOT / "tfotrace"),))
        try:
            run.wait_ready()
            started = time.monotonic()
        finally:
            run.close()
        if attempt:
            starts.append(started - run.began)
            ends.append(time.monotonic() - started)
    return starts, ends


def _spread(costs: list[dict[str, float]]) -> str:
    times = Spread.of(cost["s"] * 1000 for cost in costs)
    memory = Spread.of(cost["bytes"] for cost in costs).median
    return f"{times.text(1)} ms" + (f", +{memory / 1e6:.1f} MB private" if memory else "")
