"""SIGKILL of all or part of a run: nothing stays attached, no process is left, and the next run works."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hooks import needs_tcx, tcx_programs
from tests.support.hosts import WIRE, Hosts, service, two_hosts
from tests.support.netbox import NetBox, wait_until
from tests.support.patience import PATIENCE_S
from tests.support.tracing import KEPT_PROGRAMS, Run, assert_balanced, kill_at_once, members, run, tracing, with_run_dir
from tracer.attach import clsact
from tracer.linux import interfaces

pytestmark = pytest.mark.root


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with two_hosts() as hosts:
        yield hosts


def attached(box: NetBox, name: str = WIRE) -> list[int]:
    """Ids of all programs on the interface by TCX (as the kernel lists them) and XDP (as bpftool does)."""
    with box.inside():
        index = interfaces.find(name).index
        found = tcx_programs(index)
    return found + [one["id"] for one in box.json("bpftool", "-j", "net")[0]["xdp"] if one["devname"] == name]


def filters(box: NetBox, name: str = WIRE) -> set[str]:
    """Names of the clsact filters of both sides."""
    with box.inside():
        index = interfaces.find(name).index
        parents = (clsact.PARENT_INGRESS, clsact.PARENT_EGRESS)
        return {each.name for parent in parents for each in clsact.filters(index, parent)}


def kill(run: Run, who: str) -> None:
    pids = {"everybody": members(run.user_part), "user part": [run.user_part], "root part": [run.root_part]}[who]
    kill_at_once(pids)


def next_run_is_fine(hosts: Hosts, prefix: list[str]) -> Run:
    words = (WIRE, "--json", "--netns", hosts.client.name)
    with tracing(*words, prefix=prefix) as after, service(hosts.client, hosts.server) as web:
        assert after.wait_port(web.exchange()).handshake.result == "established"
        assert after.stop() == 0
        assert_balanced(after.end)
        return after


@needs_tcx  # where filters are taken instead, the tests below say what stays and who removes it
@pytest.mark.parametrize(
    ("hook", "who"),
    [
        ("auto", "everybody"),
        ("auto", "user part"),
        ("auto", "root part"),
        ("xdp-native", "everybody"),
        ("xdp-generic", "root part"),
    ],
)
def test_nothing_stays_attached(hosts: Hosts, tmp_path: Path, who: str, hook: str) -> None:
    prefix = with_run_dir(tmp_path / "run")
    words = (WIRE, "--json", "--hook", hook, "--netns", hosts.client.name)
    with tracing(*words, prefix=prefix) as victim, service(hosts.client, hosts.server) as web:
        victim.wait_port(web.exchange())
        assert len(attached(hosts.client)) == 2
        kill(victim, who)
        wait_until(lambda: not attached(hosts.client), "the programs to go", PATIENCE_S)
        wait_until(lambda: not members(victim.user_part), "the processes to end", PATIENCE_S)
        code = victim.wait_end()
        if who == "root part":
            # the user part tells what happened, and ends its records in order
            assert code == 4
            assert victim.end.exit_code == 4
            assert sum("root part" in line for line in victim.said) == 1
            assert not any("Traceback" in line for line in victim.said)
            assert "not known" in victim.said[-1]  # what was lost: nobody has counted to the end
        else:
            assert code == -signal.SIGKILL
    if hook == "auto":
        after = next_run_is_fine(hosts, prefix)
        assert not after.notices
        assert {path.name for path in (tmp_path / "run").iterdir()} <= {KEPT_PROGRAMS}


def test_the_next_run_removes_filters_that_a_killed_one_left(hosts: Hosts, tmp_path: Path) -> None:
    prefix = with_run_dir(tmp_path / "run")
    words = (WIRE, "--json", "--hook", "clsact", "--netns", hosts.client.name)
    with tracing(*words, prefix=prefix) as victim:
        assert {one.hook for one in victim.start.interfaces} == {"clsact"}
        kill(victim, "everybody")
        wait_until(lambda: not members(victim.user_part), "the processes to end", PATIENCE_S)
    (left,) = filters(hosts.client)
    after = next_run_is_fine(hosts, prefix)
    assert {notice.kind for notice in after.notices} == {"leftover_removed"}
    assert filters(hosts.client) == set()
    assert left.startswith("tfotrace-")
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {KEPT_PROGRAMS}


@pytest.mark.parametrize("who", ["user part", "root part"])
def test_half_a_kill_with_filters(hosts: Hosts, tmp_path: Path, who: str) -> None:
    prefix = with_run_dir(tmp_path / "run")
    words = (WIRE, "--json", "--hook", "clsact", "--netns", hosts.client.name)
    with tracing(*words, prefix=prefix) as victim:
        kill(victim, who)
        wait_until(lambda: not members(victim.user_part), "the processes to end", PATIENCE_S)
    if who == "user part":  # the root part tidies up as at any end
        assert filters(hosts.client) == set()
    done = run("detach", prefix=prefix)
    assert (done.code, done.err) == (0, "")
    assert filters(hosts.client) == set()


def test_detach_takes_what_is_left_and_nothing_of_a_running_instance(hosts: Hosts, tmp_path: Path) -> None:
    prefix = with_run_dir(tmp_path / "run")
    words = (WIRE, "--json", "--hook", "clsact", "--netns", hosts.client.name)
    with tracing(*words, prefix=prefix) as lives:
        (own,) = filters(hosts.client)
        with tracing(*words, prefix=prefix) as victim:
            kill(victim, "everybody")
            wait_until(lambda: not members(victim.user_part), "the processes to end", PATIENCE_S)
        assert len(filters(hosts.client)) == 2
        done = run("detach", prefix=prefix)
        assert (done.code, done.err) == (0, "")
        assert [line.partition(" that process ")[0] for line in done.out.decode().splitlines()] == [
            "removed the tc ingress filter",
            "removed the tc egress filter",
        ]
        assert filters(hosts.client) == {own}
        again = run("detach", prefix=prefix)
        assert (again.code, again.out, again.err) == (0, b"nothing was left behind\n", "")
        with service(hosts.client, hosts.server) as web:
            assert lives.wait_port(web.exchange()).handshake.result == "established"
        assert lives.stop() == 0
        assert_balanced(lives.end)
        assert not lives.notices
    assert filters(hosts.client) == set()


def test_two_runs_on_one_interface_see_the_same(hosts: Hosts) -> None:
    words = (WIRE, "--json", "--netns", hosts.client.name)
    with tracing(*words) as one, tracing(*words) as two, service(hosts.client, hosts.server) as web:
        ports = [web.exchange(fast_open=True), web.exchange(fast_open=True), web.exchange()]
        for port in ports:
            first, second = one.wait_port(port), two.wait_port(port)
            assert (first.id, first.syn, first.synack, first.tfo.outcome) == (
                second.id, second.syn, second.synack, second.tfo.outcome,
            )  # fmt: skip
        assert one.stop() == 0
        assert two.wait_port(web.exchange()).handshake.result == "established"
        assert two.stop() == 0
    assert attached(hosts.client) == []
