"""What the root part and the kernel programs cost. Measuring programs is the host's choice: this only reads.

The kernel adds up run times where kernel.bpf_stats_enabled is 1. A program that another one calls (a later stage) runs
in that one's time and is not counted by itself.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from pathlib import Path

from tracer.ipc.messages import RootCost
from tracer.linux import bpfsys

STATS_ENABLED = Path("/proc/sys/kernel/bpf_stats_enabled")  # Linux 5.1
_S_TO_US = 1e6


def cpu_us(who: int = resource.RUSAGE_SELF) -> float:
    """CPU time of this process, or with RUSAGE_CHILDREN of its children that have ended, microseconds."""
    used = resource.getrusage(who)
    return (used.ru_utime + used.ru_stime) * _S_TO_US


def cost(programs: Mapping[str, int], switch: Path = STATS_ENABLED) -> RootCost:
    """What it is until now; `programs` are descriptors by name."""
    return RootCost(time.monotonic_ns(), cpu_us(), cpu_us(resource.RUSAGE_CHILDREN), _run_times(programs, switch))


def _run_times(programs: Mapping[str, int], switch: Path) -> dict[str, tuple[int, int]] | None:
    try:
        if switch.read_text().strip() != "1":
            return None
        found = {name: bpfsys.program_info(fd) for name, fd in programs.items()}
    except OSError:
        return None
    return {name: (one.run_count, one.run_time_ns) for name, one in found.items() if one.run_count}
