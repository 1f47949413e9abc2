"""SIGKILL at random moments of start-up, tracing and end, of any process: nothing of ours stays attached.

`make test-reliability` kills 200 times with links and 200 with filters; TFOTRACE_KILLS and TFOTRACE_SEED set that.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.hooks import needs_tcx, tc_programs
from tests.support.hosts import WIRE, Hosts, service
from tests.support.longer import SEED, number
from tests.support.netbox import NetBox, wait_until
from tests.support.patience import PATIENCE_S
from tests.support.tracing import COMMAND, assert_balanced, members, run, tracing, with_run_dir
from tracer.attach import xdp
from tracer.linux import interfaces

KILLS = number("TFOTRACE_KILLS", 8, 200)
pytestmark = [pytest.mark.root, pytest.mark.timeout(120 + 10 * KILLS)]

OPTIONS = ("--json", "--duration", "0.3")
WITHIN_S = 1.0  # measured, and told; what is asserted is that it happens


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return with_run_dir(tmp_path_factory.mktemp("run"))


def attached(box: NetBox) -> list[object]:
    """All programs on the interface, whoever's they are."""
    with box.inside():
        index = interfaces.find(WIRE).index
        return [*xdp.programs(index), *tc_programs(index)]


@dataclass
class Victim:
    """A run of which one process, or all, is killed after some time, at any point."""

    process: subprocess.Popen[bytes]
    began: float

    def is_gone(self) -> bool:
        return not members(self.process.pid)

    def kill(self, after_s: float, who: str, pick: random.Random) -> str:
        """Returns what it killed: user part, root part, compiler; "ended" if nothing was left."""
        time.sleep(max(0.0, self.began + after_s - time.monotonic()))
        there = sorted(members(self.process.pid))
        if not there:
            return "ended"
        chosen = there if who == "everybody" else [pick.choice(there)]
        names = {self.process.pid: "user part"}
        with suppress(OSError):
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
            names.update({int(one): "root part" for one in children.split()})
        for pid in chosen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return "everybody" if who == "everybody" else names.get(chosen[0], "loader")


def start(box: NetBox, prefix: list[str], hook: str) -> Victim:
    words = [*prefix, *COMMAND, WIRE, "--hook", hook, "--netns", box.name, *OPTIONS]
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    return Victim(process, time.monotonic())


def whole_run_s(box: NetBox, prefix: list[str], hook: str) -> float:
    """How long a run takes from start to end, so that moments can be picked from all of it."""
    took = []
    for _ in range(2):  # the first one compiles
        began = time.monotonic()
        assert start(box, prefix, hook).process.wait(PATIENCE_S) == 0
        took.append(time.monotonic() - began)
    return min(took)


def kill_often(hosts: Hosts, prefix: list[str], hook: str, kills: int, after: object) -> tuple[Counter[str], float]:
    """Kill repeatedly and call `after()`, which asserts. Returns who was killed how often, and the longest end."""
    pick = random.Random(f"{SEED} {hook}")
    print(f"TFOTRACE_SEED={SEED}")
    box, met, longest = hosts.client, Counter[str](), 0.0
    span = 1.05 * whole_run_s(box, prefix, hook)
    for _ in range(kills):
        victim = start(box, prefix, hook)
        try:
            who = victim.kill(pick.random() * span, pick.choice(["one", "one", "one", "everybody"]), pick)
            began = time.monotonic()
            if who in ("user part", "everybody"):
                victim.process.wait(PATIENCE_S)
            wait_until(victim.is_gone, "every process to end", PATIENCE_S)
            if hook != "clsact":
                wait_until(lambda: not attached(box), "the programs to go", PATIENCE_S)
            longest = max(longest, time.monotonic() - began) if who != "ended" else longest
            met[who] += 1
            assert callable(after)
            after()
        finally:
            for pid in members(victim.process.pid):
                os.kill(pid, signal.SIGKILL)
            victim.process.wait()
    print(f"{hook}: {kills} kills of {dict(met)}; longest until nobody was left {longest:.2f} s of {WITHIN_S} s")
    return met, longest


def one_run_is_fine(hosts: Hosts, prefix: list[str], hook: str) -> list[str]:
    """Trace a handshake; returns the kinds of the notices."""
    words = (WIRE, "--json", "--hook", hook, "--netns", hosts.client.name)
    with tracing(*words, prefix=prefix) as after, service(hosts.client, hosts.server) as web:
        assert after.wait_port(web.exchange()).handshake.result == "established"
        assert after.stop() == 0
        assert_balanced(after.end)
        return [notice.kind for notice in after.notices]


@needs_tcx
@pytest.mark.parametrize(("hook", "share"), [("auto", 3), ("xdp-native", 1)])
def test_with_links_nothing_stays(hosts: Hosts, prefix: list[str], hook: str, share: int) -> None:
    met, _ = kill_often(hosts, prefix, hook, max(3, KILLS * share // 4), lambda: None)
    assert met.total() == max(3, KILLS * share // 4)
    assert one_run_is_fine(hosts, prefix, hook) == []
    assert attached(hosts.client) == []
    done = run("detach", prefix=prefix)
    assert (done.code, done.out) == (0, b"nothing was left behind\n")


def test_with_filters_detach_or_the_next_start_cleans(hosts: Hosts, prefix: list[str]) -> None:
    left, turn = Counter[str](), 0

    def clean() -> None:
        nonlocal turn
        there = attached(hosts.client)
        left["left" if there else "nothing left"] += 1
        turn += 1
        if turn % 4:
            done = run("detach", prefix=prefix)
            assert (done.code, done.err) == (0, "")
            assert bool(there) == (done.out != b"nothing was left behind\n")
        else:
            assert ("leftover_removed" in one_run_is_fine(hosts, prefix, "clsact")) == bool(there)
        assert attached(hosts.client) == []

    kill_often(hosts, prefix, "clsact", KILLS, clean)
    print(f"clsact: {dict(left)}")
    assert left.total() == KILLS
