"""Record some rounds of the demo lab, traced live, into tests/golden/lab_events.npz. Needs root.

sudo .venv/bin/python -m tests.support.record_lab [FILE [SECONDS]]
"""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

from tests.support import recording
from tracer.cli.arguments import demo_parser
from tracer.handshake.batch import Batch
from tracer.records.run import End, NoticeRecord, Start, Stats
from tracer.run import assembly
from tracer.run import live as run
from tracer.run.demo import Demo

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "lab_events.npz"
SYSCTLS = ("tcp_fastopen", "tcp_fastopen_blackhole_timeout_sec", "tcp_syncookies", "tcp_timestamps", "tcp_ecn")


class Recorder:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.begun: Start | None = None
        self.ended: End | None = None

    def start(self, record: Start) -> None:
        """First record."""
        self.begun = record

    def write(self, batch: Batch) -> None:
        """All of them."""
        self.batches.append(batch)

    def notice(self, record: NoticeRecord) -> None:
        """Not kept."""

    def stats(self, record: Stats) -> None:
        """Not kept."""

    def tick(self) -> None:
        """Nothing to do."""

    def close(self, record: End | None) -> None:
        """Last record."""
        self.ended = record


def _inside(netns: str, *command: str) -> str:
    return subprocess.run(["nsenter", f"--net={netns}", *command], check=True, capture_output=True, text=True).stdout


def _counters(netns: str) -> dict[str, int]:
    lines = [line.split() for line in _inside(netns, "cat", "/proc/net/netstat").splitlines()]
    tcp = dict(zip(lines[0][1:], lines[1][1:], strict=True))
    return {name: int(value) for name, value in tcp.items() if "FastOpen" in name or name == "TCPReqQFullDoCookies"}


def main(file: str = str(GOLDEN), seconds: str = "20") -> int:
    """Trace the demo lab and write what came."""
    path = Path(file)
    recorder = Recorder()
    assembly.open_sinks = lambda *_, **__: [recorder]  # type: ignore[assignment]
    with Demo() as demo:
        words = ("--json", "--duration", seconds)
        options = Namespace(**{**vars(demo_parser().parse_args(words)), "netns": demo.netns})
        code = run.trace(options, (demo.interface,), ("tfotrace", "demo", *words), print, demo.begin)
        knobs = [f"net.ipv4.{name}" for name in SYSCTLS]
        sysctls = {knob: _inside(demo.netns, "sysctl", "-n", knob).strip() for knob in knobs}
        counters = _counters(demo.netns)
    if code or recorder.begun is None or recorder.ended is None:
        return code or 1
    recording.save(path, recording.Recording.of(recorder.batches, recorder.begun, recorder.ended, counters, sysctls))
    print(f"{path}: {sum(map(len, recorder.batches))} handshakes, {path.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
