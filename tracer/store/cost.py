"""What tracing costs at the moment, of the sums that come once a second."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from tracer.records.cost import Cost, ProgramCost

WINDOW = 11  # sums: ten seconds
_NS_PER_US = 1e3


@dataclass(frozen=True, slots=True)
class ProgramShare:
    """A kernel program: share of one CPU (1.0: all of it), runs a second, nanoseconds a run."""

    name: str
    share: float
    runs_per_s: float
    ns_per_run: float | None  # None: it did not run


@dataclass(frozen=True, slots=True)
class CostView:
    """Shares of one CPU over the last seconds. `programs` is None where the kernel does not measure them."""

    user_share: float
    root_share: float
    loading_us: float
    programs: tuple[ProgramShare, ...] | None


@dataclass(slots=True)
class CostWindow:
    """The sums of the last seconds."""

    _sums: deque[tuple[int, Cost]] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _measured: deque[dict[str, ProgramCost]] = field(default_factory=lambda: deque(maxlen=WINDOW))  # by then

    def add(self, cost: Cost, taken_ns: int) -> None:
        """Take sums as of a time of CLOCK_MONOTONIC; times that do not grow are left out."""
        if not self._sums or taken_ns > self._sums[-1][0]:
            # while programs are not measured their sums stay as they were, and are not told
            measured = cost.programs if cost.programs is not None else self._measured[-1] if self._measured else {}
            self._sums.append((taken_ns, cost))
            self._measured.append(measured)

    def view(self) -> CostView | None:
        """Shares between the first and the last of them; None as long as there is only one."""
        if len(self._sums) < 2:
            return None
        (began_ns, first), (ended_ns, last) = self._sums[0], self._sums[-1]
        took_us = (ended_ns - began_ns) / _NS_PER_US
        return CostView(
            (last.user_part_cpu_us - first.user_part_cpu_us) / took_us,
            (last.root_part_cpu_us - first.root_part_cpu_us) / took_us,
            last.loading_cpu_us,
            None if last.programs is None else tuple(_shares(self._measured[0], last.programs, took_us)),
        )


def _shares(before: dict[str, ProgramCost], after: dict[str, ProgramCost], took_us: float) -> Iterable[ProgramShare]:
    none = ProgramCost(0, 0.0)
    for name, now in after.items():
        then = before.get(name, none)
        runs, time_us = now.runs - then.runs, now.run_time_us - then.run_time_us
        yield ProgramShare(name, time_us / took_us, runs * 1e6 / took_us, time_us * _NS_PER_US / runs if runs else None)
