"""Bulk throughput of one iperf3 stream between two namespaces, alternately with each contender."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench import contenders
from bench.common import Row, Spread
from bench.contenders import TFOTRACE, Contender, NotHereError
from tests.support.load import SERVER, Wire, wire

PATIENCE_S = 30.0
QUICK = [TFOTRACE, contenders.TCPDUMP_SYNS]
EVERYBODY = [TFOTRACE, *contenders.TFOTRACE_HOOKS, contenders.TCPDUMP_SYNS, contenders.TCPDUMP_ALL, contenders.TSHARK,
             *contenders.BCC_AND_BPFTRACE]  # fmt: skip


@dataclass
class Score:
    """One contender's figures, round by round."""

    percent: list[float] = field(default_factory=list)  # of the throughput without, right before and after
    cpu: list[float] = field(default_factory=list)  # of its processes, percent of a core
    losses: list[str] = field(default_factory=list)
    absent: str = ""

    def text(self) -> str:
        """The text for the table."""
        if self.absent:
            return f"does not run here: {self.absent}"
        losses = f"; losses in {len(self.losses)} of {len(self.percent)} rounds" if self.losses else ""
        return f"{Spread.of(self.percent).text(1)} % of without; CPU {Spread.of(self.cpu).median:.0f} %{losses}"


def measure(quick: bool) -> list[Row]:
    """Rows for the throughput, as shares of the throughput without a contender."""
    rounds, seconds = (1, 1) if quick else (3, 3)
    everybody = QUICK if quick else EVERYBODY
    without: list[float] = []
    scores = {one.name: Score() for one in everybody}
    with wire() as hosts, _server(hosts):
        stream(hosts, 1)
        for _ in range(rounds):
            before = stream(hosts, seconds)
            without.append(before)
            for one in everybody:
                score = scores[one.name]
                if score.absent:
                    continue
                rate = _beside(hosts, one, seconds, score)
                after = stream(hosts, seconds)
                if rate is not None:
                    score.percent.append(100 * rate * 2 / (before + after))
                before = after
                without.append(before)
    rows = [Row(f"without anything, {len(without)} runs of {seconds} s", f"{Spread.of(without).text(1)} Gbit/s")]
    return rows + [Row(name, score.text()) for name, score in scores.items()]


def _beside(hosts: Wire, one: Contender, seconds: int, score: Score) -> float | None:
    try:
        with one.start(hosts.server) as running:
            before = running.cpu_seconds()
            rate = stream(hosts, seconds)
            score.cpu.append(100 * (running.cpu_seconds() - before) / seconds)
    except NotHereError as error:
        score.absent = str(error)
        return None
    if running.lost:
        score.losses.append(running.losses)
    return rate


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


def stream(hosts: Wire, seconds: int) -> float:
    """Gbit/s at the receiver."""
    said = hosts.client.run("iperf3", "-c", SERVER[4], "-t", str(seconds), "-J")
    rate: float = json.loads(said)["end"]["sum_received"]["bits_per_second"] / 1e9
    return rate
