"""The cost of the dashboard's store: memory, and a share of one core at 20,000 handshakes per second, 100,000 kept.

    .venv/bin/python -m bench.store_cost

CPU time is the process's own, so a busy machine changes it little. The store gets batches as from the pipeline, each of
2 to 20 ms, and gives a snapshot four times per second of traffic.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from tests.support.rows import new_store, random_batch
from tracer.filters.filter import parse
from tracer.handshake.batch import Batch
from tracer.store import list_columns

RATE = 20_000
BATCHES = 64
SNAPSHOTS_PER_S = 4
FILTERS = (
    "tfo.outcome == data_not_acked and rtt > 50ms", "sni ~ example", "ip == 10.0.0.0/8", "example", "exam", "p0f ~ mss",
)  # fmt: skip


def resident_mib() -> float:
    """Resident set of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def traffic(size: int, *, peers: int | None, payloads: bool) -> list[Batch]:
    """Batches to feed repeatedly."""
    return [random_batch(seed, size, peers=peers, odd=False, payloads=payloads) for seed in range(BATCHES)]


def feed(title: str, batches: list[Batch], seconds: int) -> None:
    """Feed that many seconds of traffic at full speed; prints CPU time per second of traffic.

    Here every snapshot computes everything again; in a run only one per second does.
    """
    store = new_store(refresh_ns=0)
    size = len(batches[0])
    for at in range(5 * RATE // size + 1):
        store.write(batches[at % len(batches)])
    writing = asking = 0.0
    slowest = 0.0
    per_snapshot = RATE // SNAPSHOTS_PER_S // size
    for step in range(seconds * SNAPSHOTS_PER_S):
        began = time.process_time()
        for at in range(per_snapshot):
            store.write(batches[(step * per_snapshot + at) % len(batches)])
        between = time.process_time()
        store.snapshot()
        after = time.process_time()
        writing += between - began
        asking += after - between
        slowest = max(slowest, after - between)
    snapshots = seconds * SNAPSHOTS_PER_S
    print(
        f"{title:44} write {100 * writing / seconds:5.1f} %   "
        f"snapshot {1000 * asking / snapshots:5.2f} ms, slowest {1000 * slowest:5.2f} ms   {resident_mib():6.0f} MiB"
    )


def growth(batches: list[Batch]) -> None:
    """Memory over a million handshakes whose addresses never repeat."""
    store = new_store()
    rng = np.random.default_rng(1)
    written = 0
    for target in (100_000, 250_000, 500_000, 750_000, 1_000_000, 1_500_000):
        while written < target:
            batch = batches[written // len(batches[0]) % len(batches)]
            for name in ("client", "server"):
                batch.events[name] = rng.integers(0, 256, (len(batch), 16), dtype=np.uint8)
            store.write(batch)
            written += len(batch)
        store.snapshot()
        print(f"  {written:9,} handshakes seen: {resident_mib():6.0f} MiB")


def questions(batches: list[Batch]) -> None:
    """The queries of a screen over 100,000 rows: the first time, and again a quarter of a second later."""
    store = new_store()
    while len(store.snapshot().rows) < store.limit:
        for batch in batches:
            store.write(batch)
    for text in FILTERS:
        expression = parse(text)
        times = []
        for _ in range(2):
            rows = store.snapshot().rows
            began = time.process_time()
            found = rows.select(expression)
            times.append(time.process_time() - began)
            store.write(batches[0])
        print(f"  filter {text:45} first {1000 * times[0]:7.1f} ms, then {1000 * times[1]:6.1f} ms ({len(found)} rows)")
    for name in ("time", "rtt", "server", "outcome", "sni", "id", "options"):
        times = []
        for _ in range(2):
            began = time.process_time()
            list_columns.sort_keys(rows, name)
            times.append(time.process_time() - began)
        print(f"  keys of {name:44} first {1000 * times[0]:7.1f} ms, then {1000 * times[1]:6.1f} ms")
    began = time.process_time()
    for row in range(200):
        rows.record(row)
    cost_us = 1e6 * (time.process_time() - began) / 200
    print(f"  one record composed: {cost_us:.0f} us; {len(list_columns.COLUMNS)} columns")


def main() -> int:
    """Print everything."""
    print(f"share of one core at {RATE:,} handshakes a second, 100,000 held")
    feed("batches of 50, 50 peers", traffic(50, peers=50, payloads=False), 5)
    feed("batches of 50, 50 peers, payloads", traffic(50, peers=50, payloads=True), 5)
    feed("batches of 400, 50 peers, payloads", traffic(400, peers=50, payloads=True), 5)
    feed("batches of 400, every peer new, payloads", traffic(400, peers=None, payloads=True), 5)
    print("memory")
    growth(traffic(1000, peers=None, payloads=True))
    print("questions to 100,000 rows")
    questions(traffic(1000, peers=500, payloads=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
