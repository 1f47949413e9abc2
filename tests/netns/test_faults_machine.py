"""Changes to the machine while it traces: its clock is set, a CPU goes offline and comes back, a user's quota is full.

This would disturb other work, so only guests of `make test-kernels` run it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import datetime
from pathlib import Path

import pytest

from tests.support.cpus import SECOND, two_cpus
from tests.support.hosts import WIRE, Hosts, Service
from tests.support.netbox import wait_until
from tests.support.patience import PATIENCE_S
from tests.support.tracing import Run, assert_balanced, decode, tracing
from tracer.records.record import Handshake
from tracer.records.run import Start

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        not os.environ.get("TFOTRACE_OWN_MACHINE"),
        reason="sets the clock, takes a CPU away: only where the machine is its own (make test-kernels)",
    ),
]

HOUR_S = 3600
NEAR_S = 60  # how far a handshake's time may be from when it was made; the steps are longer by far
QUOTA_KB = 64


@contextmanager
def wall_clock_put_right() -> Iterator[None]:
    """Whatever it is set to meanwhile."""
    wall, steady = time.time(), time.monotonic()
    try:
        yield
    finally:
        time.clock_settime(time.CLOCK_REALTIME, wall + time.monotonic() - steady)


def seconds_off(record: Handshake) -> float:
    """How far its time is from the wall clock's."""
    return abs(datetime.fromisoformat(f"{record.ts[:26]}+00:00").timestamp() - time.time())


def exchange_until_right(run: Run, web: Service) -> Handshake:
    """The first handshake with the new wall clock, which is read once a second."""
    found: list[Handshake] = []

    def right() -> bool:
        found.append(run.wait_port(web.exchange(fast_open=True)))
        return seconds_off(found[-1]) < NEAR_S

    wait_until(right, "a handshake of the clock's new time", PATIENCE_S)
    return found[-1]


def test_the_clock_is_set_and_only_times_follow(hosts: Hosts, web: Service) -> None:
    with tracing(WIRE, "--json", "--netns", hosts.client.name) as run, wall_clock_put_right():
        assert seconds_off(run.wait_port(web.exchange())) < NEAR_S
        for step_s in (HOUR_S, -3 * HOUR_S, -365 * 24 * HOUR_S):
            time.clock_settime(time.CLOCK_REALTIME, time.time() + step_s)
            timing = exchange_until_right(run, web).handshake
            assert timing.result == "established"
            for duration_us in (timing.synack_delay_us, timing.ack_delay_us, timing.first_response_us):
                assert duration_us is not None
                assert 0 < duration_us < HOUR_S * 1e6 / 2
        assert run.stop() == 0
        assert_balanced(run.end)
        assert run.end.duration_s < HOUR_S / 2


@contextmanager
def cpu_away() -> Iterator[None]:
    SECOND.write_text("0")
    try:
        yield
    finally:
        SECOND.write_text("1")


def exchange_around_a_leave(run: Run, web: Service) -> list[int]:
    """Connections on both CPUs, then on the one that stays, then on the one that was away; their clients' ports."""
    here, ports = os.sched_getaffinity(0), list[int]()
    try:
        for cpu, leaves in ((0, False), (1, False), (0, True), (1, False)):
            os.sched_setaffinity(0, {cpu})
            with cpu_away() if leaves else nullcontext():
                ports.extend(web.exchange(fast_open=True) for _ in range(5))
    finally:
        os.sched_setaffinity(0, here)
    return ports


def test_a_cpu_leaves_and_comes_back(hosts: Hosts, web: Service) -> None:
    with two_cpus(), tracing(WIRE, "--json", "--netns", hosts.client.name) as run:
        ports = exchange_around_a_leave(run, web)
        run.wait_port(ports[-1])
        assert run.stop() == 0
        assert_balanced(run.end)
    assert sorted(one.client.port for one in run.handshakes) == sorted(ports)
    # what the CPU had counted before it left is still in the sums
    assert run.end.counters["syns"] == run.end.counters["synacks"] == len(ports)


def test_with_the_perf_buffer_what_that_cpu_sends_later_is_counted_as_lost(hosts: Hosts, web: Service) -> None:
    with two_cpus(), tracing(WIRE, "--json", "--transport", "perf", "--netns", hosts.client.name) as run:
        ports = exchange_around_a_leave(run, web)
        assert run.stop() == 0
        assert_balanced(run.end)
    assert {one.client.port for one in run.handshakes} >= set(ports[:15])
    assert len(run.handshakes) + run.end.balance.lost == len(ports)


@contextmanager
def disk_with_quota(user: str) -> Iterator[Path]:
    """A separate ext4 on which a user may have QUOTA_KB."""
    folder = Path(tempfile.mkdtemp(prefix="tfotest-"))
    folder.chmod(0o755)  # pytest's folders are closed to others
    image, disk = folder / "image", folder / "disk"
    disk.mkdir()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        subprocess.run(["truncate", "-s", "16M", image], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-O", "quota", "-E", "quotatype=usrquota", image], check=True)
        subprocess.run(["mount", "-o", "loop,usrquota", image, disk], check=True)
        stack.callback(subprocess.run, ["umount", disk], check=True)
        subprocess.run(["setquota", "-u", user, "0", str(QUOTA_KB), "0", "0", disk], check=True)
        disk.chmod(0o1777)
        yield disk


def test_a_users_quota_is_full(hosts: Hosts, web: Service) -> None:
    with disk_with_quota("nobody") as disk:
        path = disk / "f.jsonl"
        words = (WIRE, "--json", "-w", str(path), "--user", "nobody", "--netns", hosts.client.name)
        with tracing(*words) as run:
            while run.process.poll() is None and len(run.lines) < 3000:
                web.exchange()
            assert run.wait_end() == 4
            told = f"cannot write to {path}: Disk quota exceeded"
            assert [line for line in run.said if "cannot write" in line] == [f"tfotrace: {told}"]
            assert run.end.reason == told
            assert_balanced(run.end)
            assert run.end.balance.dropped > 0
        assert 0 < path.stat().st_size <= QUOTA_KB * 1024
        with path.open("rb") as file:
            assert isinstance(decode(file.readline()), Start)
