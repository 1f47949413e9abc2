"""Packets per second of a capture through `tfotrace replay`, compared with other tools on the same file."""

from __future__ import annotations

import gzip
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.common import Row, Spread
from tests.support import captures
from tests.support.captures import EN10MB, Packet, handshake, pcap, pcapng

TARGET = 150_000
BETWEEN_NS = 1_000_000  # from one connection's SYN to the next one's
PACKETS_EACH = 10  # per connection: the handshake and data in both directions


@dataclass(frozen=True, slots=True)
class _Run:
    wall_s: float
    cpu_s: float


def _timed(words: Sequence[str]) -> _Run:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    wall_s = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return _Run(wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _replay(path: Path, *words: str) -> list[str]:
    return [sys.executable, "-I", "-m", "tracer", "replay", str(path), "--quiet", *words]


def _packets(connections: int) -> list[Packet]:
    """Handshakes with Fast Open, each followed by data; ten are pending at any time."""
    found: list[Packet] = []
    for number in range(connections):
        at_ns = captures.START_NS + number * BETWEEN_NS
        shake = handshake(at_ns=at_ns, port=1024 + number % 60_000)
        last = shake[-1]
        more = [Packet(last.at_ns + step * 1_000_000, last.ip) for step in range(1, PACKETS_EACH - len(shake) + 1)]
        found += [*shake, *more]
    return sorted(found, key=lambda one: one.at_ns)


def measure(quick: bool) -> list[Row]:
    """Rows for replay and the other tools."""
    connections, runs = (6_000, 2) if quick else (30_000, 5)
    packets = _packets(connections)
    count = len(packets)
    with tempfile.TemporaryDirectory(prefix="tfobench-") as name:
        folder = Path(name)
        empty, plain = folder / "empty.pcap", folder / "plain.pcap"
        empty.write_bytes(pcap(EN10MB, [], nano=True))
        plain.write_bytes(pcap(EN10MB, packets, nano=True))
        files = {"pcap": plain}
        if not quick:
            files["pcapng"] = folder / "trace.pcapng"
            files["pcapng"].write_bytes(pcapng(EN10MB, packets))
            files["pcap.gz"] = folder / "plain.pcap.gz"
            files["pcap.gz"].write_bytes(gzip.compress(plain.read_bytes(), 6))
        _timed(_replay(empty))  # it keeps its compiled programs
        idle = [_timed(_replay(empty)) for _ in range(runs)]
        start_s, start_cpu_s = Spread.of(one.wall_s for one in idle).median, Spread.of(one.cpu_s for one in idle).median
        rows = [
            Row(
                "tfotrace replay --quiet, an empty capture: start and end, s",
                Spread.of(one.wall_s for one in idle).text(),
            )
        ]
        for form, path in files.items():
            done = [_timed(_replay(path)) for _ in range(runs)]
            rate = Spread.of(count / (one.wall_s - start_s) for one in done)
            each = Spread.of((one.cpu_s - start_cpu_s) / count * 1e6 for one in done)
            target, met = (f"{TARGET:,}", rate.median >= TARGET) if form == "pcap" else ("", None)
            rows.append(Row(f"the same, {form} of {count:,} packets: packets/s beyond that", rate.text(0), target, met))
            rows.append(Row(f"  processor time of both processes, {form}, us a packet", each.text()))
        rows.append(_peer_row(("tcpdump", "-n", "-r"), plain, count, runs))
        if quick:  # tshark takes a second for 8,000 packets
            count //= 4
            plain.write_bytes(pcap(EN10MB, packets[:count], nano=True))
        rows.append(_peer_row(("tshark", "-n", "-T", "ek", "-r"), plain, count, 1))
    return rows


def _peer_row(words: Sequence[str], path: Path, count: int, runs: int) -> Row:
    rate = Spread.of(count / _timed([*words, str(path)]).wall_s for _ in range(runs))
    return Row(f"{' '.join(words)}, {count:,} packets of that pcap: packets/s in all", rate.text(0))


if __name__ == "__main__":
    for row in measure("--quick" in sys.argv):
        print(f"{row.what:110} {row.value:>40} {row.target}")
