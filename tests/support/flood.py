"""SYN floods from random sources, by bench/flood.c."""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.support.load import ROOT, SERVER, Host

SOURCE = ROOT / "bench" / "flood.c"
PROGRAM = ROOT / "bench" / "build" / "flood"
NOBODY = "02:00:00:00:99:99"  # whose packets the target's stack throws away behind its ingress hook
PORT = 9  # nobody listens there


@dataclass
class Flood:
    """A running flood; `sent` and `rate` (SYNs per second) are valid after stop()."""

    senders: list[subprocess.Popen[str]]
    sent: int = 0
    seconds: float = 0.0
    rate: float = 0.0

    def stop(self) -> None:
        if self.seconds:
            return
        for sender in self.senders:
            sender.terminate()
        for sender in self.senders:
            words = sender.communicate()[0].split()
            assert sender.returncode == 0
            sent, seconds = int(words[0]), float(words[2])
            self.sent, self.seconds = self.sent + sent, max(self.seconds, seconds)
            self.rate += sent / seconds


def program() -> str:
    """The flood's program, compiled if its source is newer. Raises CalledProcessError."""
    PROGRAM.parent.mkdir(exist_ok=True)
    with open(PROGRAM.parent / ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests may run side by side
        if not PROGRAM.exists() or PROGRAM.stat().st_mtime < SOURCE.stat().st_mtime:
            fresh = PROGRAM.with_suffix(".new")
            subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", fresh, SOURCE], check=True)
            fresh.rename(PROGRAM)
    return str(PROGRAM)


@contextmanager
def flooding(
    host: Host, rate: int, mac: str = NOBODY, port: int = PORT, most_s: int = 900, senders: int = 1
) -> Iterator[Flood]:
    """Send SYNs to SERVER by the host's eth0, `rate` per second from each sender (0: the maximum), within the block."""
    words = [program(), "eth0", mac, SERVER[4], str(port), str(rate), str(most_s)]
    flood = Flood([])
    try:
        for _ in range(senders):
            command = ["nsenter", f"--net={host.path}", *words]
            flood.senders.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        yield flood
        flood.stop()
    finally:
        for sender in flood.senders:
            sender.kill()
            sender.wait()
            assert sender.stdout is not None
            sender.stdout.close()
