"""Do floods crowd real handshakes out of the pending table?

    python -m bench.crowding [--only WORDS]

Each attack fills the table first; then real handshakes come beside it, of which a third each wait 300 ms without an
answer, without the client's ACK, and without the server's first data. The real programs get all packets by
BPF_PROG_TEST_RUN at times of the script's own clock, so figures do not depend on how fast or busy the machine is. It
prints rows of docs/RELIABILITY.md. With `--against CHECKOUT` it measures what the programs of both checkouts cost
instead, in turn: a SYN of a flood, and a whole handshake.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.common import ROOT, Spread, empty_program, end_cleanly, loaded_programs, machine
from bench.packet_cost import cheapest, handshake_ns
from bench.walk import RingReset, Walk, handshake
from tests.support.packets import Flow, address, option, padded
from tests.support.rawprog import SCHED_CLS, TC_ACT_UNSPEC
from tests.support.testrun import BALANCE, LOOPBACK, NS_PER_S, Programs, Road, imbalance
from tracer.loader.load import LoadOptions
from tracer.vocabulary.vocabulary import SettleReason

SYN, PSH, ACK = 2, 8, 16
OPTIONS = padded(option(2, b"\x05\xb4") + option(4))
START_NS = 1_000_000 * NS_PER_S
WAIT_NS = 300_000_000
REAL = 200  # of each kind
REAL_NS = 2 * NS_PER_S  # in which they begin
SWEEP_NS = NS_PER_S // 4
TABLE = 65536
# What is sent of an attacker's connection, all at once.
SYNS, ANSWERED, IDLE, FORGED = "SYN", "SYN, SYN-ACK", "SYN, SYN-ACK, ACK", "SYN, ACK"
ATTACKS: dict[str, list[tuple[str, int]]] = {
    "idle established, 20,000 a second": [(IDLE, 20_000)],
    "SYNs that nobody answers, 20,000 a second": [(SYNS, 20_000)],
    "SYNs that nobody answers, 200,000 a second": [(SYNS, 200_000)],
    "SYNs that the server answers, 20,000 a second": [(ANSWERED, 20_000)],
    "forged SYN and ACK to a silent address, 20,000 a second": [(FORGED, 20_000)],
    "forged SYN and ACK to a silent address, 200,000 a second": [(FORGED, 200_000)],
    "all of these kinds, 20,000 a second each": [(kind, 20_000) for kind in (IDLE, SYNS, ANSWERED, FORGED)],
}
# The state in which a real handshake waits, by the port of its server: when its SYN-ACK, ACK and first data come.
REAL_KINDS = {
    441: ("unanswered", (WAIT_NS, WAIT_NS, WAIT_NS)),
    442: ("half open", (0, WAIT_NS, WAIT_NS)),
    443: ("established", (0, 0, WAIT_NS)),
}
ISN, SERVER_ISN = 1000, 5000
_SOURCE, _SOURCE_PORT, _TARGET, _TARGET_PORT = 26, 34, 30, 36  # in an untagged IPv4 frame

Timed = tuple[int, bytes]


@dataclass(slots=True)
class Templates:
    """The frames of one connection, of which only the client's address and port change."""

    port: int
    frames: dict[str, bytes] = field(init=False)

    def __post_init__(self) -> None:
        flow = Flow(address("192.0.2.1"), address("198.51.100.2"), 1, self.port)
        self.frames = {
            "SYN": flow.frame(SYN, ISN, options=OPTIONS),
            "SYN-ACK": flow.back.frame(SYN | ACK, SERVER_ISN, ISN + 1, options=OPTIONS),
            "ACK": flow.frame(ACK, ISN + 1, SERVER_ISN + 1),
            "data": flow.back.frame(ACK | PSH, SERVER_ISN + 1, ISN + 1, payload=b"!" * 100),
        }

    def frame(self, name: str, client: bytes, port: bytes) -> bytes:
        """The frame of this client: an address and a port as in headers."""
        frame = bytearray(self.frames[name])
        at, port_at = (_TARGET, _TARGET_PORT) if name in ("SYN-ACK", "data") else (_SOURCE, _SOURCE_PORT)
        frame[at : at + 4], frame[port_at : port_at + 2] = client, port
        return bytes(frame)


def attack(kind: str, number: int, rate: int, until_ns: int) -> Iterator[Timed]:
    """Connections at a steady rate from ever other clients; each sends all it sends at once."""
    templates, step = Templates(80), NS_PER_S / rate
    for n in range(int(rate * until_ns / NS_PER_S)):
        at = START_NS + int(n * step)
        client = (11 + number).to_bytes(1, "big") + (n % (1 << 24)).to_bytes(3, "big")
        for name in kind.split(", "):
            yield at, templates.frame(name, client, (1024 + n % 50_000).to_bytes(2, "big"))


def real(begin_ns: int) -> list[Timed]:
    """All real handshakes, which begin evenly spread."""
    found: list[Timed] = []
    for port, (_, waits) in REAL_KINDS.items():
        templates = Templates(port)
        for n in range(REAL):
            at, client = START_NS + begin_ns + n * REAL_NS // REAL + port, bytes((10, 0, n >> 8, n & 0xFF))
            for name, wait in zip(templates.frames, (0, *waits), strict=True):
                found.append((at + wait, templates.frame(name, client, b"\x9c\x40")))
    return sorted(found, key=lambda timed: timed[0])


@dataclass(slots=True)
class Outcome:
    """What became of them: complete records by the port of the server, and the terms of the balance that moved."""

    complete: dict[int, int]
    terms: dict[str, int]
    missing: int  # what the balance sheet lacks

    def text(self) -> str:
        """`lost N of M` for each kind, and what was evicted."""
        lost = [f"{name} {REAL - self.complete[port]}" for port, (name, _) in REAL_KINDS.items()]
        terms = ", ".join(f"{name} {count:,}" for name, count in self.terms.items() if count)
        return f"crowded out of {REAL} each: {', '.join(lost)}; {terms}; balance off by {self.missing}"


def crowd(programs: Programs, streams: list[tuple[str, int]]) -> Outcome:
    """One attack upon an empty table, with the real handshakes after the time in which it fills the table."""
    programs.drain()
    before = programs.counters()
    fill_ns = min(4 * NS_PER_S, int(1.5 * TABLE / sum(rate for _, rate in streams) * NS_PER_S))
    end_ns = fill_ns + REAL_NS + 2 * WAIT_NS
    packets = heapq.merge(
        *(attack(kind, number, rate, end_ns) for number, (kind, rate) in enumerate(streams)),
        iter(real(fill_ns)),
        key=lambda timed: timed[0],
    )
    complete = dict.fromkeys(REAL_KINDS, 0)

    def collect() -> None:
        events = programs.events()
        for port in REAL_KINDS:
            complete[port] += int(
                ((events["server_port"] == port) & (events["reason"] == SettleReason.BY_RESPONSE)).sum()
            )

    swept_ns = START_NS
    for at, frame in packets:
        if at - swept_ns >= SWEEP_NS:
            programs.sweep(now_ns=at)
            collect()
            swept_ns = at
        programs.run(Road.TC_INGRESS, frame, at_ns=at)
    live = programs.sweep(now_ns=START_NS + end_ns)
    collect()
    after = programs.counters()
    return Outcome(complete, {name: after[name] - before[name] for name in BALANCE}, imbalance(before, after, live))


FLOOD_SYNS = 200_000


def costs(rounds: int) -> dict[str, int]:
    """Nanoseconds above an empty program: a SYN of a flood in a full table, and a whole handshake."""
    found = {f"a SYN of a flood, {table:,} entries": syn_cost(table, rounds) for table in (256, TABLE)}
    found["a whole handshake"] = handshake_ns("tc_ingress", handshake(), 4 * rounds)[0]
    return found


def syn_cost(table: int, rounds: int) -> int:
    """Nanoseconds of a SYN from ever other clients in a full table of that many entries."""
    nothing = empty_program(SCHED_CLS, TC_ACT_UNSPEC)
    syn, turn = handshake()[:1], 0
    with loaded_programs(LoadOptions(table_size=table)) as kernel, Walk("tc") as walk, RingReset.of(kernel) as reset:
        kernel.trace_interface(LOOPBACK, 0, True)
        program = kernel.loaded.programs["tc_ingress"]

        def run(which: int) -> int:
            nonlocal turn
            reset()
            turn += 1
            return walk.run(which, syn, turn * FLOOD_SYNS, FLOOD_SYNS)

        run(program)  # fills the table
        base, full = cheapest(rounds, lambda: run(nothing), lambda: run(program))
        assert kernel.counters()["evicted_unanswered"] > FLOOD_SYNS // 2
    os.close(nothing)
    return full - base


def compare(other: Path, rounds: int) -> None:
    """Print this checkout's costs beside the other's, measured in turn."""
    names: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        mine, others = (
            json.loads(
                subprocess.run(
                    [sys.executable, str(ROOT / "bench" / "crowding.py"), "--costs"],
                    capture_output=True, text=True, check=True, cwd=where, env={**os.environ, "PYTHONPATH": str(where)},
                ).stdout
            )
            for where in (ROOT, other)
        )  # fmt: skip
        for name, ns in mine.items():
            names.setdefault(name, []).append((ns, others[name]))
    for name, pairs in names.items():
        ratio = Spread.of([100 * here / there for here, there in pairs])
        here, there = (Spread.of(column) for column in zip(*pairs, strict=True))
        print(f"| {name} | {here.text(0)} ns here, {there.text(0)} ns there: {ratio.text(1)} % in {rounds} rounds |")


def main() -> int:
    """Returns 1 if a balance sheet is not exact."""
    parser = argparse.ArgumentParser(prog="python -m bench.crowding", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--costs", action="store_true", help="print this checkout's costs as JSON")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="compare costs with those of this one")
    parser.add_argument("--only", default="", metavar="WORDS", help="attacks whose name has these words")
    parser.add_argument("--rounds", type=int, default=5, help="of the comparison")
    options = parser.parse_args()
    end_cleanly()
    if options.costs:
        print(json.dumps(costs(5)))
        return 0
    print("\n".join(machine()), flush=True)
    if options.against:
        compare(options.against.resolve(), options.rounds)
        return 0
    programs = Programs(replay=True)
    wrong = 0
    for name, streams in ATTACKS.items():
        if options.only not in name:
            continue
        outcome = crowd(programs, streams)
        wrong += outcome.missing != 0
        print(f"| {name} | {outcome.text()} |", flush=True)
    programs.close()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
