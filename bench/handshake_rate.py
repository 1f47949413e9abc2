"""Handshakes per second between two namespaces, alternately with each contender, and where the loss comes from.

Both CPUs make handshakes all the time, so the loss is CPU time. It has these parts: the CPU time of the contender's own
processes until they are idle; the extra cost of each handshake for the load (the packet path: BPF programs, copies of
packets, caches used by others); and, in a separate run because counting costs too, the run time of the BPF programs
according to the kernel. The first two give the rate on an otherwise idle machine: if that is far from the measured
rate, the machine was busy. Every contender watches the server's eth0 after the same warm-up.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bench import bpf_stats, contenders
from bench.common import Row, Spread
from bench.contenders import TFOTRACE, Contender, NotHereError
from tests.support.load import Wire, wire

TARGET_PERCENT = 98.0
PEERS = [contenders.TCPDUMP_SYNS, contenders.TCPDUMP_ALL, contenders.TSHARK, *contenders.BCC_AND_BPFTRACE]
QUICK_PEERS = PEERS[:3]
# bench/handshakes.c: both CPUs make handshakes all the time, half of them with Fast Open and data
LOAD = {"processes": 2, "tfo_percent": 50}
PER = 100_000  # handshakes: the unit for CPU seconds


@dataclass(frozen=True, slots=True)
class Pace:
    """One run of the load: handshakes a second, and CPU seconds of the load itself for 100,000."""

    rate: float
    cpu: float


@dataclass
class Score:
    """One contender's figures, round by round."""

    percent: list[float] = field(default_factory=list)  # share of the rate without it, measured right before and after
    own: list[float] = field(default_factory=list)  # CPU seconds of its processes for 100,000 handshakes
    path: list[float] = field(default_factory=list)  # the same: extra CPU seconds of the load
    behind: int = 0  # rounds in which it was still busy long after the load
    losses: list[str] = field(default_factory=list)  # its words in rounds with losses
    spent: bpf_stats.Spent | None = None  # in its BPF programs, for 100,000
    absent: str = ""

    def rows(self, name: str, load_cpu: float) -> list[Row]:
        """Rows for the table. `load_cpu`: CPU time of the load alone, which sets the rate, as all CPUs are busy."""
        if self.absent:
            return [Row(name, f"does not run here: {self.absent}")]
        text = f"{Spread.of(self.percent).text(1)} % of without"
        if self.losses:
            text += f"; losses in {len(self.losses)} of {len(self.percent)} rounds"
        if self.behind:
            text += f"; behind by more than {contenders.CATCH_UP_S:.0f} s in {self.behind}"
        own, path = Spread.of(self.own), Spread.of(self.path).median
        share = 100 * load_cpu / (load_cpu + own.median + path)
        cpu = f"processes {own.text()}, load {path:+.2f}: a rate of {share:.0f} %"
        if self.spent is not None:
            cpu += f"; BPF programs {self.spent.seconds:.3f} in {self.spent.runs / PER:.1f} runs a handshake"
        return [Row(name, text), Row(f"  CPU s for {PER:,}", cpu)]


def measure(quick: bool) -> list[Row]:
    """Rows for the rate."""
    rounds = 2 if quick else 5
    count = 12_000 if quick else 100_000
    own = [TFOTRACE, contenders.TFOTRACE_JSON]
    if not quick:
        own[1:1] = contenders.TFOTRACE_HOOKS
    everybody = [*own, *(QUICK_PEERS if quick else PEERS)]
    scores = {one.name: Score() for one in everybody}
    without: list[Pace] = []
    with wire() as hosts:
        hosts.handshakes(10_000, **LOAD)  # cookies, caches
        for number in range(rounds):
            before = pace(hosts, count)
            without.append(before)
            for one in everybody:
                score = scores[one.name]
                if score.absent or (quick and number and one in (contenders.TCPDUMP_ALL, contenders.TSHARK)):
                    continue
                beside = _beside(hosts, one, count, score)
                after = pace(hosts, count)
                without.append(after)
                if beside is not None:
                    score.percent.append(100 * beside.rate * 2 / (before.rate + after.rate))
                    score.path.append(beside.cpu - (before.cpu + after.cpu) / 2)
                before = after
                if number == 0 and beside is not None and not (quick and one is not TFOTRACE):
                    score.spent = _spent(hosts, one, count)
    rate, cpu = Spread.of(one.rate for one in without), Spread.of(one.cpu for one in without)
    rows = [
        Row(f"without anything, {len(without)} runs of {count:,}", f"{rate.text(0)} a second"),
        Row(f"  CPU s for {PER:,}", f"load {cpu.text()}"),
    ]
    for one in everybody:
        found = scores[one.name].rows(one.name, cpu.median)
        if one is TFOTRACE:
            found[0] = _judged(found[0], scores)
        rows += found
    return rows


def pace(hosts: Wire, count: int) -> Pace:
    """A run of the load after a short one to warm up."""
    hosts.handshakes(count // 10, **LOAD)
    said = hosts.handshakes(count, **LOAD)
    return Pace(said["rate"], said["cpu_seconds"] * PER / count)


def _beside(hosts: Wire, one: Contender, count: int, score: Score) -> Pace | None:
    try:
        with one.start(hosts.server) as running:
            hosts.handshakes(count // 10, **LOAD)
            running.caught_up()
            before = running.cpu_seconds()
            said = hosts.handshakes(count, **LOAD)
            score.behind += not running.caught_up()
            score.own.append((running.cpu_seconds() - before) * PER / count)
    except NotHereError as error:
        score.absent = str(error)
        return None
    if running.lost:
        score.losses.append(running.losses)
    return Pace(said["rate"], said["cpu_seconds"] * PER / count)


def _spent(hosts: Wire, one: Contender, count: int) -> bpf_stats.Spent | None:
    with one.start(hosts.server) as running:
        programs = running.bpf_programs()
        if not programs:
            return None
        hosts.handshakes(count // 10, **LOAD)
        with bpf_stats.counting(programs) as spent:
            hosts.handshakes(count, **LOAD)
    return bpf_stats.Spent(spent.runs * PER // count, spent.seconds * PER / count)


def _judged(row: Row, scores: dict[str, Score]) -> Row:
    """The row of tfotrace with its target: as fast as without, and faster than the other tools here."""
    score = scores[TFOTRACE.name]
    percent, cpu = Spread.of(score.percent).median, _cpu(score)
    there = [scores[peer.name] for peer in PEERS if peer.name in scores and scores[peer.name].percent]
    better = all(percent > Spread.of(peer.percent).median and cpu < _cpu(peer) for peer in there)
    return Row(row.what, row.value, f"at least {TARGET_PERCENT:.0f} %, and better than every peer here",
               percent >= TARGET_PERCENT and better and not score.losses)  # fmt: skip


def _cpu(score: Score) -> float:
    """CPU time of its processes and of the packet path."""
    return Spread.of(score.own).median + Spread.of(score.path).median
