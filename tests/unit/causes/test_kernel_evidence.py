"""Which readings of the host are kept, against a list of all."""

from __future__ import annotations

import numpy as np
import pytest

from tracer.causes.kernel_evidence import LOOKS_KEPT, SECONDS_KEPT, KernelEvidence
from tracer.ipc.messages import Host

S = 1_000_000_000


@pytest.mark.parametrize("apart_ns", [S // 10, S // 2, 3 * S])
@pytest.mark.parametrize("count", [0, 1, LOOKS_KEPT, 3 * LOOKS_KEPT + 7])
def test_the_latest_looks_are_kept_and_one_a_second_before_them(count: int, apart_ns: int) -> None:
    evidence, rng = KernelEvidence(), np.random.default_rng(count)
    times = [10 * S + number * apart_ns for number in range(count)]
    for number, taken_ns in enumerate(times):
        host = Host({"ListenDrops": number}, {"tcp_fastopen": "3"}, taken_ns, 0, taken_ns)
        evidence.add(host)
        evidence.add(host)  # no newer than the last
    assert evidence.latest_ns == (times[-1] if times else 0)
    seconds: list[int] = []
    for number, taken_ns in enumerate(times):
        if not seconds or taken_ns >= times[seconds[-1]] + S:
            seconds.append(number)
    kept = sorted({*seconds[-SECONDS_KEPT:], *range(max(count - LOOKS_KEPT, 0), count)})
    syn_ns = rng.integers(9 * S, 10 * S + (count + 1) * apart_ns, 300)
    until_ns = syn_ns + rng.integers(0, 5 * S, 300)
    rose = evidence.rose(syn_ns.astype(np.uint64), until_ns.astype(np.uint64))
    for row, (began_ns, ended_ns) in enumerate(zip(syn_ns.tolist(), until_ns.tolist(), strict=True)):
        before = [number for number in kept if times[number] <= began_ns]
        after = [number for number in kept if times[number] >= ended_ns]
        assert bool(rose.known[row]) == bool(before and after)
        assert rose.drops[row] == (min(after) - max(before) if before and after else 0)
