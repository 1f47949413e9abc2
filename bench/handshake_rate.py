"""Handshakes a second between two namespaces with tfotrace and without, alternating; and what it takes of the CPU."""

from __future__ import annotations

from bench.common import Row, Spread, cpu_seconds, process_tree
from tests.support.load import traced, wire


def measure(quick: bool) -> list[Row]:
    """Rows for the rate. Both CPUs make handshakes all the time, so tfotrace competes with them."""
    rounds = 2 if quick else 6
    count = 60_000 if quick else 200_000
    rates: dict[str, list[float]] = {"off": [], "on": []}
    cpu: list[float] = []
    lost = 0
    with wire() as hosts:
        hosts.handshakes(10_000, processes=2, tfo_percent=50)  # cookies, caches
        for _ in range(rounds):
            rates["off"].append(hosts.handshakes(count, processes=2, tfo_percent=50)["rate"])
            with traced(hosts.server, record=False) as run:
                pids = process_tree(run.process.pid)
                before = cpu_seconds(pids)
                rates["on"].append(hosts.handshakes(count, processes=2, tfo_percent=50)["rate"])
                cpu.append((cpu_seconds(pids) - before) * 100_000 / count)
                narration = run.narration
                lost += "being lost" in narration
    off, on = Spread.of(rates["off"]), Spread.of(rates["on"])
    return [
        Row(f"without, {rounds} runs of {count:,}", f"{off.text(0)} a second"),
        Row("with tfotrace --json >/dev/null on the server's interface (TCX)", f"{on.text(0)} a second"),
        Row("with / without", f"{100 * on.median / off.median:.1f} %"),
        Row("CPU of tfotrace for 100,000 handshakes, both processes", f"{Spread.of(cpu).text()} s"),
        Row("runs in which handshakes were lost", str(lost), "0", lost == 0),
    ]
