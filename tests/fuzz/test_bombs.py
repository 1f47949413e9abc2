"""Small files that expand a lot: replay reads them with little memory, or says why not."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import zstandard

from tests.fuzz.test_replay import recordings
from tests.support import captures

MEMORY_MIB = 300  # of the whole process; Python, numpy and a store that is empty take 60
MIB = 1 << 20
# Between: the most memory of a child is at least that of the process which started it, and pytest may have much.
MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print("\\n%d" % resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, end="")
sys.exit(code)
"""
# What reads a capture without root: all but the run through the programs.
READ_CAPTURE = """
import sys
from pathlib import Path
from tracer.replay.feed import Feed
from tracer.replay.input import open_input
from tracer.replay.root_part import make_slots
feed = Feed(open_input(Path(sys.argv[1])), make_slots())
while feed.can_read:
    frames = feed.read()
    if frames is not None:
        feed.done(frames.slot, 1)
print(feed.damage)
"""


def lines(kind: str) -> tuple[bytes, dict[str, object]]:
    """The first line of a recording, and one record of a kind as a dict to change."""
    found = recordings()[0].splitlines(keepends=True)
    return found[0], next(one for one in map(msgspec.json.decode, found) if one["event"] == kind)


def one_endless_line() -> Iterator[bytes]:
    yield lines("start")[0]
    for _ in range(400):
        yield b"[" * MIB  # and no newline


def handshakes_with_long_names() -> Iterator[bytes]:
    yield lines("start")[0]
    record = lines("handshake")[1]
    for number in range(500):
        record["syn"]["mptcp"] = record["community_id"] = str(number) + "x" * 400_000  # type: ignore[index]
        yield msgspec.json.encode(record) + b"\n"


def ever_new_interfaces() -> Iterator[bytes]:
    yield lines("start")[0]
    record = lines("handshake")[1]
    for number in range(20_000):
        record["interface"] = f"eth{number}" + "x" * 8000
        yield msgspec.json.encode(record) + b"\n"


def ever_new_counters() -> Iterator[bytes]:
    start, record = lines("stats")
    for run in range(120):
        yield start
        record["counters"] = {f"{run} {number}": number for number in range(30_000)}
        yield msgspec.json.encode(record) + b"\n"


def interfaces_without_end() -> Iterator[bytes]:
    yield captures.section()
    for _ in range(100):
        yield captures.interface(captures.EN10MB, None) * 100_000


def blocks_without_packets() -> Iterator[bytes]:
    yield captures.section() + captures.interface(captures.EN10MB, "eth0")
    for _ in range(512):
        yield b"\x0b\0\0\0\x00\x00\x10\0" + bytes(MIB - 12) + b"\x00\x00\x10\0"


def measured(command: list[str]) -> tuple[int, float, str]:
    """Exit status, peak memory in MiB, and all output."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    measuring = [sys.executable, "-I", "-S", "-c", MEASURE, *command]
    with subprocess.Popen(measuring, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment) as child:
        assert child.stdout is not None
        said = b""
        while part := child.stdout.read(MIB):
            said = (said + part)[-100_000:]
    text, _, kibibytes = said.decode("utf-8", "replace").rpartition("\n")
    return child.returncode, int(kibibytes) / 1024, text


def gzipped(parts: Iterator[bytes], path: Path) -> None:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    with path.open("wb") as file:
        for part in parts:
            file.write(packer.compress(part))
        file.write(packer.flush())


def zstandarded(parts: Iterator[bytes], path: Path) -> None:
    with zstandard.open(path, "wb") as file:
        for part in parts:
            file.write(part)


@pytest.mark.parametrize(
    ("make", "pack", "tells"),
    [
        (one_endless_line, zstandarded, "is no record of tfotrace"),
        (one_endless_line, gzipped, "is no record of tfotrace"),
        (handshakes_with_long_names, zstandarded, "is a damaged record"),
        (ever_new_interfaces, zstandarded, "is a damaged record"),
        (ever_new_counters, zstandarded, "120 of 120 runs have no end record"),
    ],
)
def test_recordings(
    make: Callable[[], Iterator[bytes]], pack: Callable[[Iterator[bytes], Path], None], tells: str, tmp_path: Path
) -> None:
    path = tmp_path / "bomb"
    pack(make(), path)
    code, mebibytes, said = measured([sys.executable, "-m", "tracer", "replay", str(path), "-w", os.devnull])
    assert code == 0, said
    assert tells in said
    assert mebibytes < MEMORY_MIB


@pytest.mark.parametrize(
    ("make", "tells"), [(interfaces_without_end, "more than 65536 interfaces"), (blocks_without_packets, "None")]
)
def test_captures(make: Callable[[], Iterator[bytes]], tells: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    zstandarded(make(), path)
    code, mebibytes, said = measured([sys.executable, "-c", READ_CAPTURE, str(path)])
    assert code == 0, said
    assert tells in said
    assert mebibytes < MEMORY_MIB
