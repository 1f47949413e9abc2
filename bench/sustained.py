"""100,000 handshakes per second into a running tfotrace: is any lost, and what does it cost?"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

from bench.common import ROOT, Row, program_ids
from bench.contenders import TFOTRACE, TFOTRACE_JSON, Contender
from tests.support.load import Host, Wire, wire
from tracer.linux import bpfsys

RATE = 100_000


def measure(quick: bool) -> list[Row]:
    """Rows for a steady rate."""
    seconds = 2 if quick else 60
    with wire() as hosts:
        return [_row(hosts, TFOTRACE, RATE, seconds, "0 lost"), _row(hosts, TFOTRACE_JSON, RATE // 2, seconds, "")]


def _row(hosts: Wire, one: Contender, rate: int, seconds: int, target: str) -> Row:
    with one.start(hosts.server) as running:
        program, index = _attached(running.pids), _ifindex(hosts.server)
        before = running.cpu_seconds()
        words = [sys.executable, "-m", "bench.feeder", str(program), str(index), str(rate), str(seconds)]
        done = subprocess.run(["nsenter", f"--net={hosts.server.path}", *words], capture_output=True, text=True,
                              check=True, cwd=ROOT)  # fmt: skip
        cpu = running.cpu_seconds() - before
    fed = json.loads(done.stdout)
    achieved = fed["sent"] / fed["seconds"]
    share = 100 * cpu / fed["seconds"]
    value = f"{achieved:,.0f} a second for {fed['seconds']:.0f} s: {running.losses}; CPU {share:.0f} % of a core"
    met = achieved >= 0.98 * rate and not running.lost if target else None
    return Row(f"{one.name}: {rate:,} a second asked for", value, target, met)


def _attached(pids: Sequence[int]) -> int:
    """Id of these processes' tc_ingress."""
    for number in program_ids(pids):
        info = bpfsys.program_info_by_id(number)
        if info is not None and info.name == "tc_ingress":
            return info.id
    raise RuntimeError("no process of tfotrace holds a tc_ingress")


def _ifindex(host: Host) -> int:
    index: int = json.loads(host.run("ip", "-j", "link", "show", "eth0"))[0]["ifindex"]
    return index
