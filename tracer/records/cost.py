"""What tracing itself costs this host."""

from __future__ import annotations

from typing import Annotated

import msgspec

from tracer.records.types import Count, Microseconds, said


class ProgramCost(msgspec.Struct, frozen=True):
    """A kernel program, with the programs that it calls in its time."""

    runs: Annotated[Count, said("how often it ran while kernel.bpf_stats_enabled was 1", minimum=0)]
    run_time_us: Annotated[Microseconds, said("microseconds that these took, over all CPUs", minimum=0)]


class Cost(msgspec.Struct, frozen=True):
    """CPU time of each part since it began, and run time of the kernel programs."""

    user_part_cpu_us: Annotated[float, said("microseconds: the part that judges, writes and shows", minimum=0)]
    root_part_cpu_us: Annotated[float, said("microseconds: the part that attaches, sweeps and answers", minimum=0)]
    loading_cpu_us: Annotated[
        float, said("microseconds: the children that compiled and loaded the programs, at the start", minimum=0)
    ]
    programs: Annotated[
        dict[str, ProgramCost] | None,
        said("by program, those that ran; null where kernel.bpf_stats_enabled is not 1: the kernel does not measure"),
    ] = None
