"""What the run costs: the root part's sums, and this process's own."""

from __future__ import annotations

import resource

from tracer.ipc.messages import RootCost
from tracer.records.cost import Cost, ProgramCost

FRESH_NS = 2_000_000_000  # older sums came late, and would be compared with this process's time of now
_S_TO_US, _NS_PER_US = 1e6, 1e3


def total(root: RootCost) -> Cost:
    """CPU times until now, with these sums of the root part."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    programs = root.programs
    return Cost(
        round((used.ru_utime + used.ru_stime) * _S_TO_US, 3),
        round(root.cpu_us, 3),
        round(root.loading_cpu_us, 3),
        None
        if programs is None
        else {name: ProgramCost(runs, round(time_ns / _NS_PER_US, 3)) for name, (runs, time_ns) in programs.items()},
    )
