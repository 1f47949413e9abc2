"""The cost for a host at a busy server's rate: CPU, and the time of a handshake, with and without tfotrace.

10,000 and 20,000 handshakes a second come evenly spread, and nothing is saturated: the load keeps its rate with any
contender. The CPU time of the contender's processes, and the extra CPU time of the load, are shares of one core at that
rate; the host's CPU time is all that was not idle, so it is right only if nothing else runs. A handshake's time is from
before its socket is made to the server's first byte, both ends on one CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import contenders
from bench.common import CLOCK_TICKS, Row, Spread
from bench.contenders import TFOTRACE, TFOTRACE_JSON, Contender, NotHereError
from tests.support.load import Wire, wire

RATES = (10_000, 20_000)
QUICK = [TFOTRACE, contenders.TCPDUMP_SYNS]
EVERYBODY = [TFOTRACE, TFOTRACE_JSON, contenders.TCPDUMP_SYNS, contenders.TCPDUMP_ALL, contenders.TSHARK,
             *contenders.BCC_AND_BPFTRACE]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pace:
    """One run: shares of a core in percent, and microseconds."""

    rate: float
    load: float
    host: float
    median_us: float
    p99_us: float


@dataclass
class Score:
    """One contender's figures, as differences from those without it right before and after it."""

    own: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    host: list[float] = field(default_factory=list)
    median_us: list[float] = field(default_factory=list)
    p99_us: list[float] = field(default_factory=list)
    absent: str = ""

    def text(self) -> str:
        """The text for the table."""
        if self.absent:
            return f"does not run here: {self.absent}"
        own, load, host, median, p99 = (
            Spread.of(values).median for values in (self.own, self.load, self.host, self.median_us, self.p99_us)
        )
        return (f"processes {own:.1f} % of a core, load {load:+.1f}, host {host:+.1f}; "
                f"a handshake {median:+.1f} us, 99 % {p99:+.0f} us")  # fmt: skip


def measure(quick: bool) -> list[Row]:
    """Rows for each rate."""
    seconds, rounds = (1, 1) if quick else (4, 2)
    rows: list[Row] = []
    with wire() as hosts:
        hosts.handshakes(10_000, processes=2, tfo_percent=50)  # cookies, caches
        for rate in RATES[:1] if quick else RATES:
            rows += _rows(hosts, QUICK if quick else EVERYBODY, rate, seconds, rounds)
    return rows


def _rows(hosts: Wire, everybody: Sequence[Contender], rate: int, seconds: int, rounds: int) -> list[Row]:
    scores = {one.name: Score() for one in everybody}
    without: list[Pace] = []
    for _ in range(rounds):
        before = _pace(hosts, rate, seconds)
        without.append(before)
        for one in everybody:
            score = scores[one.name]
            if score.absent:
                continue
            beside = _beside(hosts, one, rate, seconds, score)
            after = _pace(hosts, rate, seconds)
            without.append(after)
            if beside is not None:
                score.load.append(beside.load - (before.load + after.load) / 2)
                score.host.append(beside.host - (before.host + after.host) / 2)
                score.median_us.append(beside.median_us - (before.median_us + after.median_us) / 2)
                score.p99_us.append(beside.p99_us - (before.p99_us + after.p99_us) / 2)
            before = after
    load, host, median, p99, made = (
        Spread.of(getattr(one, name) for one in without).median
        for name in ("load", "host", "median_us", "p99_us", "rate")
    )
    rows = [Row(f"{rate:,} a second: without anything, {len(without)} runs of {seconds} s",
                f"load {load:.1f} % of a core, host {host:.1f}; a handshake {median:.1f} us, 99 % {p99:.0f} us; "
                f"{made:,.0f} a second")]  # fmt: skip
    return rows + [Row(f"{rate:,} a second: {one.name}", scores[one.name].text()) for one in everybody]


def _busy_seconds() -> float:
    """All CPUs together, since boot: user, nice, system, irq, softirq."""
    fields = [int(word) for word in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]]
    return (sum(fields[:3]) + sum(fields[5:7])) / CLOCK_TICKS


def _pace(hosts: Wire, rate: int, seconds: int) -> Pace:
    before = _busy_seconds()
    said = hosts.handshakes(rate * seconds, rate=rate, processes=2, tfo_percent=50)
    took = said["seconds"]
    return Pace(said["rate"], 100 * said["cpu_seconds"] / seconds, 100 * (_busy_seconds() - before) / took,
                said["median_us"], said["p99_us"])  # fmt: skip


def _beside(hosts: Wire, one: Contender, rate: int, seconds: int, score: Score) -> Pace | None:
    try:
        with one.start(hosts.server) as running:
            hosts.handshakes(rate // 2, rate=rate, processes=2, tfo_percent=50)  # warm
            running.caught_up()
            before = running.cpu_seconds()
            pace = _pace(hosts, rate, seconds)
            running.caught_up()
            score.own.append(100 * (running.cpu_seconds() - before) / seconds)
    except NotHereError as error:
        score.absent = str(error)
        return None
    return pace
