"""Bulk throughput of one iperf3 stream between two namespaces: nothing, tfotrace and tcpdump by turns."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench import contenders
from bench.common import Row, Spread
from bench.contenders import TFOTRACE, Contender
from tests.support.load import SERVER, Wire, wire

PATIENCE_S = 30.0
CONTENDERS = [TFOTRACE, *contenders.TFOTRACE_HOOKS, contenders.TCPDUMP_SYNS, contenders.TCPDUMP_ALL]


def measure(quick: bool) -> list[Row]:
    """Rows for the throughput, as shares of that without."""
    rounds, seconds = (1, 1) if quick else (5, 3)
    everybody = CONTENDERS[::3] if quick else CONTENDERS
    without: list[float] = []
    shares: dict[str, list[float]] = {one.name: [] for one in everybody}
    with wire() as hosts, _server(hosts):
        _stream(hosts, 1)
        for _ in range(rounds):
            before = _stream(hosts, seconds)
            without.append(before)
            for one in everybody:
                rate = _beside(hosts, one, seconds)
                after = _stream(hosts, seconds)
                shares[one.name].append(100 * rate * 2 / (before + after))
                before = after
                without.append(before)
    rows = [Row(f"without anything, {len(without)} runs of {seconds} s", f"{Spread.of(without).text(1)} Gbit/s")]
    return rows + [Row(name, f"{Spread.of(percents).text(1)} % of without") for name, percents in shares.items()]


def _beside(hosts: Wire, one: Contender, seconds: int) -> float:
    with one.start(hosts.server):
        return _stream(hosts, seconds)


@contextmanager
def _server(hosts: Wire) -> Iterator[None]:
    """iperf3 -s on the server host."""
    words = ["nsenter", f"--net={hosts.server.path}", "iperf3", "-s"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not hosts.server.run("ss", "-Hltn", "sport = 5201"):
            if time.monotonic() > deadline:
                raise RuntimeError("iperf3 -s does not listen")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def _stream(hosts: Wire, seconds: int) -> float:
    """Gbit/s at the receiver."""
    said = hosts.client.run("iperf3", "-c", SERVER[4], "-t", str(seconds), "-J")
    rate: float = json.loads(said)["end"]["sum_received"]["bits_per_second"] / 1e9
    return rate
