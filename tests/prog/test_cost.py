"""Run times of the programs, as far as the kernel measures them. The host's own switch stays as it is."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from bench import bpf_stats
from tests.support.rawprog import XDP, XDP_PASS, Counting
from tracer.linux import bpfsys
from tracer.root import cost

pytestmark = pytest.mark.root

FRAME = bytes(64)


def test_runs_and_their_time_are_those_of_the_kernel(tmp_path: Path) -> None:
    switch = tmp_path / "bpf_stats_enabled"
    switch.write_text("1\n")
    counted, idle = (Counting.make(XDP, XDP_PASS, name) for name in ("busy", "idle"))
    with closing(counted), closing(idle):
        programs = {"busy": counted.fd, "idle": idle.fd}
        with bpf_stats.counting([counted.id]) as spent:
            bpfsys.prog_test_run(counted.fd, FRAME, repeat=100)
        found = cost.cost(programs, switch).programs
        assert found is not None
        assert list(found) == ["busy"]
        assert found["busy"] == (100, round(spent.seconds * 1e9))
        assert cost.cost(programs, tmp_path / "missing").programs is None  # before Linux 5.1
        switch.write_text("0\n")
        assert cost.cost(programs, switch).programs is None


def test_cpu_time_grows() -> None:
    before = cost.cost({})
    total = 0
    while cost.cost({}).cpu_us <= before.cpu_us:
        total += sum(range(1000))
    assert cost.cost({}).taken_ns > before.taken_ns
