"""Shared by all measurements: the machine, processes, loaded programs, and rows of the table."""

from __future__ import annotations

import os
import platform
import re
import signal
import statistics
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.rawprog import _instruction
from tracer.linux import bpfsys
from tracer.loader.load import Loader, LoadOptions
from tracer.root.kernel import Kernel

ROOT = Path(__file__).parents[1]
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")

__all__ = ["ROOT", "Memory", "Row", "Spread", "cpu_seconds", "empty_program", "end_cleanly", "loaded_programs",
           "machine", "memory_of", "process_tree", "program_ids"]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `target` is the project's own target, empty if there is none."""

    what: str
    value: str
    target: str = ""
    met: bool | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, smallest and largest of some measurements."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The spread of at least one value."""
        listed = sorted(values)
        return cls(statistics.median(listed), listed[0], listed[-1])

    def text(self, digits: int = 2) -> str:
        """`median (least to most)`."""
        return f"{self.median:,.{digits}f} ({self.least:,.{digits}f} to {self.most:,.{digits}f})"


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of one or more processes, bytes (/proc/PID/smaps_rollup)."""

    private: int
    proportional: int

    def __add__(self, other: Memory) -> Memory:
        return Memory(self.private + other.private, self.proportional + other.proportional)

    def text(self) -> str:
        """In megabytes."""
        return f"{self.private / 1e6:.1f} MB private, {self.proportional / 1e6:.1f} MB PSS"


def end_cleanly() -> None:
    """Let SIGTERM and SIGHUP end a measurement like an exception, which removes namespaces and processes."""

    def end(number: int, _frame: object) -> None:
        for one in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(one, signal.SIG_IGN)  # a second signal must not interrupt the clean-up
        raise SystemExit(128 + number)

    for one in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(one, end)


def machine() -> list[str]:
    """Processor, memory, kernel and date, one line each."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    models = {line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")}
    total_kib = int(Path("/proc/meminfo").read_text(encoding="ascii").split()[1])
    return [
        f"{', '.join(sorted(models)) or platform.machine()}, {os.cpu_count()} CPUs, {total_kib / 2**20:.0f} GiB",
        f"Linux {platform.release()}, Python {platform.python_version()}",
        time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        f"load before the run: {os.getloadavg()[0]:.2f}",
    ]


def process_tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    listing = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(child): int(parent) for child, parent in map(str.split, listing.splitlines())}
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def memory_of(pids: Sequence[int]) -> Memory:
    """The memory of all these processes together."""
    total = Memory(0, 0)
    for pid in pids:
        fields: dict[str, int] = {}
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]:
            name, _, rest = line.partition(":")
            fields[name] = int(rest.split()[0]) * 1024
        total += Memory(fields["Private_Clean"] + fields["Private_Dirty"], fields["Pss"])
    return total


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time that the processes have used."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / CLOCK_TICKS


def program_ids(pids: Sequence[int]) -> list[int]:
    """Ids of the BPF programs of these processes, directly or by links."""
    found = set()
    for pid in pids:
        for path in Path(f"/proc/{pid}/fdinfo").iterdir():
            said = re.search(r"^prog_id:\s+(\d+)$", path.read_text(encoding="ascii"), re.MULTILINE)
            if said:
                found.add(int(said[1]))
    return sorted(found)


@contextmanager
def loaded_programs(options: LoadOptions) -> Iterator[Kernel]:
    """The real programs, loaded as in a run; unloaded at the end."""
    loaded = Loader(options).result()
    kernel = Kernel(loaded)
    kernel.configure(3600.0)
    try:
        yield kernel
    finally:
        loaded.close()


def empty_program(kind: int, verdict: int) -> int:
    """Descriptor of a program that only returns, to measure the cost of TEST_RUN itself."""
    return bpfsys.prog_load(kind, "empty", _instruction(0xB7, immediate=verdict) + _instruction(0x95))
