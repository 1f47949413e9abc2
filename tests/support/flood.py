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
    """A running one; `sent` and `seconds` once stop() has been called."""

    process: subprocess.Popen[str]
    sent: int = 0
    seconds: float = 0.0

    def stop(self) -> None:
        if self.seconds:
            return
        self.process.terminate()
        words = self.process.communicate()[0].split()
        assert self.process.returncode == 0
        self.sent, self.seconds = int(words[0]), float(words[2])

    @property
    def rate(self) -> float:
        """SYNs a second."""
        return self.sent / self.seconds


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
def flooding(host: Host, rate: int, mac: str = NOBODY, port: int = PORT, most_s: int = 900) -> Iterator[Flood]:
    """SYNs to SERVER leave by the host's eth0, `rate` a second (0: as many as it can), until the block is left."""
    words = [program(), "eth0", mac, SERVER[4], str(port), str(rate), str(most_s)]
    process = subprocess.Popen(["nsenter", f"--net={host.path}", *words], stdout=subprocess.PIPE, text=True)
    flood = Flood(process)
    try:
        yield flood
        flood.stop()
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
