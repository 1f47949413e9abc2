"""Time, memory and size of `tfotrace report`, and of `tfotrace replay --quiet` over the same recording."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import zstandard

from bench.common import Row
from tests.support.lines import run_records
from tracer.records.record import Handshake

PAGE_MAX = 1_000_000  # bytes
MEMORY_MAX_MIB = 300
SERVERS = 5000
_DAY_NS = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class _Run:
    cpu_s: float  # of all its processes
    peak_mib: float


def record(path: Path, count: int) -> None:
    """Write a recording of so many handshakes over a day: those of the lab again and again, with ids, times and servers
    of their own."""
    begin, *records, end = run_records()
    shakes = [_cut(one) for one in records if isinstance(one, Handshake)]
    first = np.datetime64("2026-01-01T00:00:00", "ns")
    with zstandard.open(path, "wb", cctx=zstandard.ZstdCompressor(level=1)) as file:
        file.write(msgspec.json.encode(begin) + b"\n")
        for number in range(count):
            ts = np.datetime_as_string(first + np.timedelta64(_DAY_NS * number // count, "ns"), timezone="UTC")
            server = number * 7919 % SERVERS
            head, middle, tail = shakes[number * 31 % len(shakes)]
            file.write(f'{head}{ts}","id":"{number:016x}"{middle}10.9.{server >> 8}.{server & 255}{tail}'.encode())
        file.write(msgspec.json.encode(end) + b"\n")


def _cut(record: Handshake) -> tuple[str, str, str]:
    """A line around its time, id, and the server's address."""
    line = msgspec.json.encode(record).decode()
    head, _, rest = line.partition(record.ts)
    middle, _, tail = rest.removeprefix(f'","id":"{record.id}"').partition(f'"server":{{"ip":"{record.server.ip}')
    return head, f'{middle}"server":{{"ip":"', f"{tail}\n"


def _timed(*words: str) -> _Run:
    null = os.open(os.devnull, os.O_WRONLY)
    pid = os.posix_spawn(
        sys.executable, [sys.executable, "-m", "tracer", *words], os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)],
    )  # fmt: skip
    os.close(null)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise RuntimeError(f"tfotrace {' '.join(words)} ended with {os.waitstatus_to_exitcode(status)}")
    return _Run(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def measure(quick: bool) -> Sequence[Row]:
    """Rows for a report, and for a replay that only adds up."""
    count = 50_000 if quick else 1_000_000
    with tempfile.TemporaryDirectory(prefix="tfobench-") as name:
        recording, page = Path(name) / "events.jsonl.zst", Path(name) / "page.html"
        record(recording, count)
        plain = _timed("replay", "--quiet", str(recording))
        made = _timed("report", str(recording), "-o", str(page))
        size = page.stat().st_size
    return [
        Row(f"tfotrace replay --quiet of {count:,} records, s of processor time", f"{plain.cpu_s:.1f}"),
        Row("tfotrace report of the same, s", f"{made.cpu_s:.1f}"),
        Row("  its peak memory, MiB", f"{made.peak_mib:.0f}", f"{MEMORY_MAX_MIB}", made.peak_mib <= MEMORY_MAX_MIB),
        Row("  without the report, MiB", f"{plain.peak_mib:.0f}"),
        Row("  the page, bytes", f"{size:,}", f"{PAGE_MAX:,}", size <= PAGE_MAX),
    ]


if __name__ == "__main__":
    for row in measure("--quick" in sys.argv):
        print(f"{row.what:60} {row.value:>12} {row.target:>10}")
