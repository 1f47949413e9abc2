"""A capture far larger than a replay's memory: every handshake is reported, in bounded memory.

100 MB in every run, 1 GB with TFOTRACE_LONG=1 (`make test-replay`).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.captures import ACK, EN10MB, START_NS, Packet, handshake, pcap
from tests.support.longer import either
from tests.support.packets import Flow, address, tcp_header
from tests.support.tracing import COMMAND, assert_balanced, decode
from tracer.records.run import End

pytestmark = pytest.mark.root

SIZE = either(100_000_000, 1_000_000_000)
MEMORY_MAX = 400 << 20  # bytes of any process of the replay: the one that compiles needs most, and not for the file
JUMBO = 8_900  # bytes of a data segment
SEGMENTS = 10  # a connection
EVERY_NS = 1_000_000
PORTS = 60_000
CHUNK = 500  # connections made at a time
PAUSE = 50  # connections that could be between them: one chunk is over before the next begins

# the largest of a command's processes, in kilobytes, behind what it says itself
MEASURED = (
    "import resource, subprocess, sys; code = subprocess.run(sys.argv[1:]).returncode; "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr); sys.exit(code)"
)


def connection(number: int) -> list[Packet]:
    """A Fast Open handshake and what the server sends then."""
    port = 1024 + number % PORTS
    first = handshake(at_ns=START_NS + (number + number // CHUNK * PAUSE) * EVERY_NS, port=port)
    flow = Flow(address("192.0.2.2"), address("192.0.2.1"), 80, port)
    data = flow.packet(tcp_header(80, port, 9000, 1, ACK) + bytes(JUMBO))
    answered = first[-1].at_ns
    return [*first, *(replace(first[-1], at_ns=answered + 10_000 * step, ip=data) for step in range(1, SEGMENTS + 1))]


def write(path: Path) -> tuple[int, int]:
    """The capture; returns how many connections and packets it holds."""
    connections = packets = 0
    with path.open("wb") as file:
        while file.tell() < SIZE:
            chunk = [packet for number in range(connections, connections + CHUNK) for packet in connection(number)]
            content = pcap(EN10MB, sorted(chunk, key=lambda one: one.at_ns), nano=True)
            file.write(content if not connections else content[24:])
            connections += CHUNK
            packets += len(chunk)
    return connections, packets


@pytest.fixture
def folder() -> Iterator[Path]:
    """Gone with its capture right after the test, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.mark.timeout(900)
def test_a_large_capture(folder: Path) -> None:
    path = folder / "large.pcap"
    connections, packets = write(path)
    began = time.monotonic()
    command = [sys.executable, "-c", MEASURED, *COMMAND, "replay", str(path), "--json"]
    done = subprocess.run(command, check=False, capture_output=True, cwd="/", timeout=800)
    took = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    end = decode(done.stdout.splitlines()[-1])
    assert isinstance(end, End)
    assert_balanced(end)
    assert (end.totals.handshakes, end.totals.outcomes) == (connections, {"data_acked": connections})
    assert end.totals.results == {"established": connections}
    memory = int(done.stderr.split()[-1]) << 10
    print(
        f"{path.stat().st_size / 1e6:.0f} MB, {packets} packets, {connections} handshakes in {took:.0f} s; "
        f"largest process {memory >> 20} MiB"
    )
    assert memory < MEMORY_MAX
