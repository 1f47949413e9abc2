"""Files of handshakes at 20,000 a second: losses, CPU and memory of `-w FILE.pcapng` beside `-w FILE.jsonl`."""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.common import ROOT, Row, Spread, cpu_seconds, memory_of, process_tree
from bench.traffic import Sender, quiet_host, write_frames
from tests.support.load import Host

RATE = 20_000
WARM_S = 2
FORMS = ("jsonl", "pcapng")
MEMORY_TARGET = 2.0  # of pcapng, times that of jsonl
PATIENCE_S = 60.0
STATISTICS_BLOCK, OS_DROP = 5, 7  # of pcapng


@dataclass(frozen=True, slots=True)
class Run:
    """One run: what was lost, and what it took. `size` and `memory` are bytes."""

    begun: int
    losses: str  # what the run said of them
    packets_lost: int
    size: int
    cpu_us: float  # a handshake
    memory: int


def measure(quick: bool) -> list[Row]:
    """Rows for both, run in turn."""
    seconds, rounds = (3, 1) if quick else (20, 3)
    runs: dict[str, list[Run]] = {form: [] for form in FORMS}
    with quiet_host() as host, tempfile.TemporaryDirectory(prefix="tfocapture-") as folder:
        frames = Path(folder) / "frames"
        write_frames(frames, RATE)
        for _ in range(rounds):
            for form in FORMS:
                runs[form].append(_run(host, frames, Path(folder) / f"written.{form}", seconds))
    rows = [_row(form, runs[form]) for form in FORMS]
    pairs = list(zip(runs["jsonl"], runs["pcapng"], strict=True))
    memory = Spread.of([there.memory / here.memory for here, there in pairs])
    cpu = Spread.of([there.cpu_us / here.cpu_us for here, there in pairs])
    return [
        *rows,
        Row("-w FILE.pcapng against -w FILE.jsonl: private memory", f"{memory.text()} times",
            f"below {MEMORY_TARGET:.0f} times", memory.median < MEMORY_TARGET),
        Row("-w FILE.pcapng against -w FILE.jsonl: CPU", f"{cpu.text()} times"),
    ]  # fmt: skip


def _run(host: Host, frames: Path, path: Path, seconds: int) -> Run:
    """Trace for some seconds; memory is the most of what was seen four times a second after WARM_S."""
    ready, said = path.with_suffix(".ready"), path.with_suffix(".said")
    words = [sys.executable, "-m", "tracer", "eth0", "--quiet", "--netns", host.path, "-w", str(path), "--ready-file",
             str(ready)]  # fmt: skip
    with open(said, "wb") as err:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=err, cwd=ROOT)
    try:
        while not ready.exists():
            if process.poll() is not None:
                raise RuntimeError(f"tracing did not begin: {said.read_text(encoding='utf-8')}")
            time.sleep(0.01)
        pids = process_tree(process.pid)
        sender = Sender(host, frames, WARM_S + seconds)
        try:
            most = _watch(sender, pids)
        finally:
            sender.close()
        time.sleep(1.0)  # so that what has come is written
        cpu = cpu_seconds(pids)
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE_S)
    finally:
        process.kill()
        process.wait()
        ready.unlink(missing_ok=True)
    losses = said.read_text(encoding="utf-8").strip().splitlines()[-1].removeprefix("tfotrace: ")
    packets_lost = _packets_lost(path) if path.suffix == ".pcapng" else 0
    size = path.stat().st_size
    path.unlink()
    return Run(sender.begun, losses, packets_lost, size, 1e6 * cpu / max(1, sender.begun), most)


def _watch(sender: Sender, pids: Sequence[int]) -> int:
    """The most private memory of these processes until the sender ends, bytes."""
    began, most = time.monotonic(), 0
    while sender.process.poll() is None:
        time.sleep(0.25)
        if time.monotonic() - began > WARM_S:
            most = max(most, memory_of(pids).private)
    return most


def _packets_lost(path: Path) -> int:
    """What the first interface's statistics, near the file's end, say that the kernel could not deliver."""
    data = path.read_bytes()
    at, lost = 0, 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        if kind == STATISTICS_BLOCK:
            option = data.index(struct.pack("<HH", OS_DROP, 8), at)
            lost += int.from_bytes(data[option + 4 : option + 12], "little")
        at += length
    return lost


def _row(form: str, runs: Sequence[Run]) -> Row:
    cpu, memory = (Spread.of([value(run) for run in runs]) for value in (_cpu, _memory))
    begun, lost = sum(run.begun for run in runs), sum(run.packets_lost for run in runs)
    said = ", ".join(dict.fromkeys(run.losses for run in runs))
    packets = f", {lost:,} packets lost" if form == "pcapng" else ""
    each = sum(run.size for run in runs) / begun
    return Row(f"-w FILE.{form}: {begun // len(runs):,} handshakes in each of {len(runs)} runs, {RATE:,} a second",
               f"{said}{packets}; CPU {cpu.text(1)} us a handshake; {memory.text(1)} MB private; {each:,.0f} B each",
               "0 lost", said == "nothing lost" and not lost)  # fmt: skip


def _cpu(run: Run) -> float:
    return run.cpu_us


def _memory(run: Run) -> float:
    return run.memory / 1e6
