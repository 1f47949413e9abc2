"""What a run says of its own cost is what /proc says of its processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.hosts import WIRE, service, two_hosts
from tests.support.patience import PATIENCE_S
from tests.support.tracing import tracing
from tracer.records.run import Stats
from tracer.root.cost import STATS_ENABLED

pytestmark = pytest.mark.root

TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")
ROUNDED_US = 2 * TICK_US  # /proc cuts user and system time to whole ticks each


def cpu_us(pid: int) -> float:
    """User and system time of a process (proc(5), stat fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_US


def test_stats_and_end_say_what_each_part_has_used() -> None:
    with two_hosts() as hosts, service(hosts.client, hosts.server) as web:
        measured = STATS_ENABLED.exists() and STATS_ENABLED.read_text().strip() == "1"
        with tracing(WIRE, "--json", prefix=hosts.client.command()) as run:
            run.wait_port(web.exchange())
            before = cpu_us(run.user_part)
            stats = run.wait_for(lambda record: isinstance(record, Stats), "a stats record", PATIENCE_S + 10)
            assert isinstance(stats, Stats)
            after = {pid: cpu_us(pid) for pid in (run.user_part, run.root_part)}
            root_part = run.root_part
            assert run.stop() == 0
        cost = stats.cost
        assert cost is not None
        assert before <= cost.user_part_cpu_us <= after[run.user_part] + ROUNDED_US
        assert 0 < cost.root_part_cpu_us <= after[root_part] + ROUNDED_US
        assert cost.loading_cpu_us > 0
        assert (cost.programs is not None) == measured
        assert run.end.cost is not None
        assert run.end.cost.user_part_cpu_us >= cost.user_part_cpu_us
        assert run.end.cost.root_part_cpu_us >= cost.root_part_cpu_us
