"""Handshakes a second between two namespaces: nothing, tfotrace and the peers by turns, and the CPU time of each."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench import contenders
from bench.common import Row, Spread
from bench.contenders import TFOTRACE, Contender, NotHereError
from tests.support.load import Wire, wire

TARGET_PERCENT = 98.0
PEERS = [contenders.TCPDUMP_SYNS, contenders.TCPDUMP_ALL, contenders.TSHARK, *contenders.BCC_AND_BPFTRACE]
# bench/handshakes.c: both CPUs make handshakes all the time, half of them with Fast Open and data
LOAD = {"processes": 2, "tfo_percent": 50}


@dataclass
class Score:
    """What one contender did, round by round."""

    percent: list[float] = field(default_factory=list)  # of the rate without, measured right before and after
    cpu: list[float] = field(default_factory=list)  # seconds for 100,000 handshakes
    losses: list[str] = field(default_factory=list)  # what it said in rounds in which it lost something
    absent: str = ""

    def text(self) -> str:
        """For the table."""
        if self.absent:
            return f"does not run here: {self.absent}"
        losses = f"; losses in {len(self.losses)} of {len(self.percent)} rounds" if self.losses else ""
        cpu = f"; CPU {Spread.of(self.cpu).text()} s for 100,000" if any(self.cpu) else ""
        return f"{Spread.of(self.percent).text(1)} % of without{cpu}{losses}"


def measure(quick: bool) -> list[Row]:
    """Rows for the rate."""
    rounds = 2 if quick else 7
    count = 20_000 if quick else 100_000
    own = [TFOTRACE, contenders.TFOTRACE_JSON]
    if not quick:
        own[1:1] = contenders.TFOTRACE_HOOKS
    everybody = [*own, *(PEERS[:3] if quick else PEERS)]
    scores = {one.name: Score() for one in everybody}
    without: list[float] = []
    with wire() as hosts:
        hosts.handshakes(10_000, **LOAD)  # cookies, caches
        for _ in range(rounds):
            before = _rate(hosts, count)
            without.append(before)
            for one in everybody:
                if not scores[one.name].absent:
                    rate = _run(hosts, one, count, scores[one.name])
                    after = _rate(hosts, count)
                    if rate is not None:
                        scores[one.name].percent.append(100 * rate * 2 / (before + after))
                    before = after
                    without.append(before)
    rows = [Row(f"without anything, {len(without)} runs of {count:,}", f"{Spread.of(without).text(0)} a second")]
    return rows + [_row(one, scores) for one in everybody]


def _rate(hosts: Wire, count: int) -> float:
    rate: float = hosts.handshakes(count, **LOAD)["rate"]
    return rate


def _run(hosts: Wire, one: Contender, count: int, score: Score) -> float | None:
    try:
        with one.start(hosts.server) as running:
            before = running.cpu_seconds()
            rate = _rate(hosts, count)
            score.cpu.append((running.cpu_seconds() - before) * 100_000 / count)
    except NotHereError as error:
        score.absent = str(error)
        return None
    if running.lost:
        score.losses.append(running.losses)
    return rate


def _row(one: Contender, scores: dict[str, Score]) -> Row:
    score = scores[one.name]
    if one is not TFOTRACE:
        return Row(one.name, score.text())
    percent, cpu = Spread.of(score.percent).median, Spread.of(score.cpu).median
    there = [scores[peer.name] for peer in PEERS if scores.get(peer.name, Score(absent="-")).percent]
    better = all(percent > Spread.of(peer.percent).median and cpu < Spread.of(peer.cpu).median for peer in there)
    return Row(one.name, score.text(), f"at least {TARGET_PERCENT:.0f} %, and better than every peer here",
               percent >= TARGET_PERCENT and better and not score.losses)  # fmt: skip
