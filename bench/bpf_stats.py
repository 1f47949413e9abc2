"""Time that the kernel spends in BPF programs (BPF_ENABLE_STATS). Counting costs too, so it needs separate runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tracer.linux import bpfsys

_ENABLE_STATS = 32
_RUN_TIME = 0


@dataclass(slots=True)
class Spent:
    """Run time of some programs. The kernel reads its clock twice for each run, and includes one of the readings."""

    runs: int = 0
    seconds: float = 0.0


def _total(ids: Sequence[int]) -> Spent:
    total = Spent()
    for number in ids:
        info = bpfsys.program_info_by_id(number)
        if info is not None:
            total.runs += info.run_count
            total.seconds += info.run_time_ns / 1e9
    return total


@contextmanager
def counting(ids: Sequence[int]) -> Iterator[Spent]:
    """Measure what these programs spend within the context; filled in at its end."""
    fd = bpfsys._call(_ENABLE_STATS, "=I", _RUN_TIME)
    spent = Spent()
    try:
        before = _total(ids)
        yield spent
        after = _total(ids)
    finally:
        os.close(fd)
    spent.runs, spent.seconds = after.runs - before.runs, after.seconds - before.seconds
