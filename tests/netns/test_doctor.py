"""`tfotrace doctor` on hosts of every kind; each answer is compared with other tools on the same host."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import jsonschema
import msgspec
import pytest

from tests.support.doctor import NOBODY, find, has
from tests.support.hooks import BY_DEFAULT, TCX_HERE, foreign_filter, foreign_tcx
from tests.support.hosts import TCP_FASTOPEN, Hosts, service, tcp_counters, two_hosts
from tests.support.netbox import NetBox
from tests.support.patience import PATIENCE_S
from tests.support.rawprog import XDP, XDP_PASS, Counting
from tests.support.tracing import COMMAND, KEPT_PROGRAMS, members, run, with_run_dir
from tracer.cli.schema import json_schema
from tracer.doctor import hooks
from tracer.doctor.model import Level, Listener, Report
from tracer.linux import bpfsys, interfaces

pytestmark = pytest.mark.root

TCP_FASTOPEN_KEY, TCP_FASTOPEN_NO_COOKIE = 33, 34


_LOAD = "from tracer.loader.load import Loader, LoadOptions; Loader(LoadOptions()).result().close()"


class _Kept:
    """A run directory in which the programs are kept: compiling them for each test would take most of its time."""

    prefix: tuple[str, ...] = ()


@pytest.fixture(scope="module", autouse=True)
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    _Kept.prefix = tuple(with_run_dir(tmp_path_factory.mktemp("doctor") / "run"))
    run(prefix=_Kept.prefix, command=(sys.executable, "-I", "-c", _LOAD))
    yield
    _Kept.prefix = ()


def doctor(box: NetBox, *words: str, as_nobody: bool = False) -> Report:
    """The report on a namespace, which the command is started in."""
    command = NOBODY if as_nobody else COMMAND
    done = run("doctor", "--json", *words, prefix=[*_Kept.prefix, *box.command()], command=command)
    assert done.said == []
    assert done.out.count(b"\n") == 1
    report = msgspec.json.decode(done.out, type=Report, strict=True)
    assert done.code == report.exit_code
    return report


def levels(report: Report) -> dict[str, str]:
    return {f"{f.topic.value}.{f.id}": f.level.value for f in report.findings}


@contextmanager
def listening(
    box: NetBox, queue: int | None = None, backlog: int = 16, address: str = "127.0.0.1"
) -> Iterator[socket.socket]:
    with box.inside():
        listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    with listener:
        listener.bind((address, 0))
        if queue is not None:
            listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, queue)
        listener.listen(backlog)
        yield listener


@pytest.fixture
def host() -> Iterator[NetBox]:
    box = NetBox()
    try:
        box.run("ip", "link", "set", "lo", "up")
        yield box
    finally:
        box.close()


# --- Fast Open: off, client only, server only, both ---


@pytest.mark.parametrize(
    ("value", "client", "server"),
    [(0, "warning", "warning"), (1, "ok", "warning"), (2, "warning", "ok"), (3, "ok", "ok"), (0x602, "warning", "ok")],
)
def test_the_sysctl_bit_by_bit(host: NetBox, value: int, client: str, server: str) -> None:
    host.run("sysctl", "-qw", f"net.ipv4.tcp_fastopen={value}")
    report = doctor(host)
    assert report.sysctls["tcp_fastopen"] == str(value)
    assert find(report, "settings", "client").level.value == client
    assert find(report, "settings", "server").level.value == server
    assert has(report, "settings", "server_no_cookie") == bool(value & 0x200)
    assert has(report, "settings", "every_listener") == bool(value & 0x400)
    assert report.exit_code == 0, report.findings
    for word, level in (("client", client), ("server", server)):
        assert (find(report, "settings", word).command is None) == (level == "ok")


def asks_to_set(report: Report) -> list[str]:
    """Every command that sets net.ipv4.tcp_fastopen, in the order of the report."""
    commands = [f.command for f in report.findings if f.command is not None]
    return [command for command in commands if "sysctl -w net.ipv4.tcp_fastopen=" in command]


@pytest.mark.parametrize("queue", [None, 0, 64], ids=["no listener", "without", "with Fast Open"])
@pytest.mark.parametrize("value", [0, 1, 2, 3, 0x4, 0x200, 0x405])
def test_any_of_its_commands_serves_all_findings(host: NetBox, value: int, queue: int | None) -> None:
    """Whichever are run, in whatever order: Fast Open is on afterwards, and nothing that was set is lost."""

    def set_to(number: int) -> None:
        host.run("sysctl", "-qw", f"net.ipv4.tcp_fastopen={number}")

    set_to(value)
    with listening(host, queue) if queue is not None else nullcontext():
        commands = asks_to_set(doctor(host))
        assert (commands == []) == (value & 3 == 3)
        for some_of_them in (commands, commands[::-1], *([one] for one in commands)):
            set_to(value)
            for command in some_of_them:
                host.run(*shlex.split(command))
            assert int(host.run("sysctl", "-n", "net.ipv4.tcp_fastopen")) == value | 3
        after = doctor(host)
        assert asks_to_set(after) == []
        assert levels(after)["settings.client"] == levels(after)["settings.server"] == "ok"
        assert not has(after, "listeners", "set_but_off")


def test_the_sum_of_its_advice_is_one_command(host: NetBox) -> None:
    host.run("sysctl", "-qw", "net.ipv4.tcp_fastopen=0", "net.ipv4.tcp_syncookies=2",
             "net.ipv4.tcp_fastopen_blackhole_timeout_sec=3600")  # fmt: skip
    said = run("doctor", prefix=[*_Kept.prefix, *host.command()]).out.decode().splitlines()
    (command,) = (line.removeprefix("to do: ") for line in said if line.startswith("to do: "))
    assert command == (
        "sysctl -w net.ipv4.tcp_fastopen=3 net.ipv4.tcp_fastopen_blackhole_timeout_sec=0 net.ipv4.tcp_syncookies=1"
    )
    host.run(*shlex.split(command))
    assert [f for f in doctor(host).findings if f.level in (Level.WARNING, Level.PROBLEM)] == []


def test_a_listener_that_asks_in_vain_is_a_problem(host: NetBox) -> None:
    host.run("sysctl", "-qw", "net.ipv4.tcp_fastopen=1")
    with listening(host, queue=64) as one:
        report = doctor(host)
        assert report.exit_code == 5
        problem = find(report, "listeners", "set_but_off")
        assert problem.level is Level.PROBLEM
        assert problem.cause == "server_disabled"
        assert f"127.0.0.1:{one.getsockname()[1]}" in problem.text
        assert problem.command is not None
        host.run(*problem.command.split())
        report = doctor(host)
        assert report.exit_code == 0
        assert find(report, "listeners", "on").level is Level.OK


def test_every_listener_by_process_with_its_queue(host: NetBox) -> None:
    host.run("sysctl", "-qw", "net.ipv4.tcp_fastopen=3", "net.ipv6.conf.all.disable_ipv6=0",
             "net.ipv6.conf.lo.disable_ipv6=0", "net.core.somaxconn=300")  # fmt: skip
    with (
        listening(host, queue=7, backlog=5) as short,
        listening(host, queue=100000) as capped,
        listening(host, backlog=9) as without,
        listening(host, queue=32, address="::1") as six,
        listening(host, queue=32) as keyed,
    ):
        keyed.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_KEY, os.urandom(32))
        keyed.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1)
        report = doctor(host)
        by_port = {item.port: item for item in report.listeners}
        assert by_port.keys() == {int(line.split()[3].rpartition(":")[2]) for line in _ss(host)}
        me = {os.getpid(): Path("/proc/self/comm").read_text().strip()}
        for item in report.listeners:
            assert {process.pid: process.name for process in item.processes} == me
            assert item.uid == 0

        def of(sock: socket.socket) -> Listener:
            return by_port[sock.getsockname()[1]]

        assert [of(s).queue for s in (short, capped, without, six, keyed)] == [7, 300, 0, 32, 32]
        assert [of(s).fast_open for s in (short, capped, without, six)] == [True, True, False, True]
        assert [of(s).own_keys for s in (short, without, keyed)] == [0, 0, 2]
        assert [of(s).no_cookie for s in (short, without, keyed)] == [False, False, True]
        assert [of(s).backlog for s in (short, without)] == [5, 9]
        assert [of(s).ip for s in (short, six)] == ["127.0.0.1", "::1"]
        found = levels(report)
        assert found["listeners.on"] == "ok"
        assert found["listeners.own_key"] == "info"
        assert found["listeners.no_cookie"] == "warning"
        assert found["listeners.off"] == "info"
        assert "4 of 5 listening sockets" in find(report, "listeners", "on").text


def _ss(box: NetBox) -> list[str]:
    return box.run("ss", "-Htln").splitlines()


def test_every_new_listener_with_bit_0x400(host: NetBox) -> None:
    host.run("sysctl", "-qw", "net.ipv4.tcp_fastopen=3")
    with listening(host, backlog=11) as before:
        host.run("sysctl", "-qw", "net.ipv4.tcp_fastopen=1027")
        with listening(host, backlog=11) as after:
            report = doctor(host)
            queues = {item.port: item.queue for item in report.listeners}
            assert queues == {before.getsockname()[1]: 0, after.getsockname()[1]: 11}
            assert "restart the program" in find(report, "listeners", "off").text


def test_a_short_queue_and_an_accept_queue_that_is_full(host: NetBox) -> None:
    host.run("sysctl", "-qw", "net.ipv4.tcp_fastopen=3")
    with listening(host, queue=1, backlog=1) as listener, host.inside():
        clients = [socket.create_connection(listener.getsockname()) for _ in range(2)]
        try:
            report = doctor(host)
        finally:
            for client in clients:
                client.close()
    assert "queue (1)" in find(report, "listeners", "short_queue").text
    (item,) = report.listeners
    assert (item.waiting, item.backlog) == (2, 1)
    assert find(report, "listeners", "accept_queue_full").level is Level.WARNING


def test_syn_cookies_always_take_no_data() -> None:
    with two_hosts() as hosts, service(hosts.client, hosts.server) as served:
        hosts.server.run("sysctl", "-qw", "net.ipv4.tcp_syncookies=2")
        for _ in range(3):
            served.exchange(fast_open=True)
        assert tcp_counters(hosts.server)["TCPFastOpenPassive"] == 0
        report = doctor(hosts.server)
        problem = find(report, "settings", "syn_cookies")
        assert (problem.level, problem.cause) == (Level.PROBLEM, "syn_cookies")
        assert report.exit_code == 5
        assert problem.command is not None
        hosts.server.run(*problem.command.split())
        for _ in range(3):
            served.exchange(fast_open=True)
        assert tcp_counters(hosts.server)["TCPFastOpenPassive"] > 0
        assert not has(doctor(hosts.server), "settings", "syn_cookies")


# --- keys, cookies, counters ---


def test_the_key_is_told_and_not_shown(host: NetBox) -> None:
    assert find(doctor(host), "settings", "key").level is Level.INFO  # none yet
    key, backup = "0a0b0c0d-11121314-15161718-191a1b1c", "2a2b2c2d-21222324-25262728-292a2b2c"
    host.run("sysctl", "-qw", "net.ipv4.tcp_fastopen=3", f"net.ipv4.tcp_fastopen_key={key}")
    report = doctor(host)
    assert "no backup key" in find(report, "settings", "key").text
    host.run("sysctl", "-qw", f"net.ipv4.tcp_fastopen_key={key},{backup}")
    other = doctor(host)
    assert "a backup key are set" in find(other, "settings", "key").text
    shown = msgspec.json.encode((report, other)).decode()
    assert not any(word in shown for word in (*key.split("-"), *backup.split("-")))


def test_cookies_and_counters_are_those_of_the_namespace() -> None:
    with two_hosts() as hosts:
        before = doctor(hosts.client)
        assert before.cached_servers == ()
        assert find(before, "cookies", "none").level is Level.INFO
        for address in ("10.99.0.2", "fd00:99::2"):
            with service(hosts.client, hosts.server, address) as served:
                for _ in range(3):
                    served.exchange(fast_open=True)
        client, server = doctor(hosts.client), doctor(hosts.server)
        _cached_as_ip_says(hosts, client)
        for report, box in ((client, hosts.client), (server, hosts.server)):
            counted = tcp_counters(box)
            assert report.counters == {name: counted[name] for name in report.counters}
        assert find(client, "counters", "client").level is Level.OK
        assert "4 times a server took" in find(client, "counters", "client").text
        assert "created 4 connections" in find(server, "counters", "server").text
        assert "asked for a cookie 2 times" in find(server, "counters", "cookie_requests").text


def _cached_as_ip_says(hosts: Hosts, report: Report) -> None:
    shown = hosts.client.json("ip", "-j", "tcp_metrics")
    told = {item["dst"]: len(item["fo_cookie"]) // 2 for item in shown if "fo_cookie" in item}
    assert told.keys() == {"10.99.0.2", "fd00:99::2"}
    assert {item.server_ip: item.cookie_len for item in report.cached_servers} == told
    assert {item.client_ip for item in report.cached_servers} == {"10.99.0.1", "fd00:99::1"}
    assert {item.mss for item in report.cached_servers} == {item["fopen_miss"] for item in shown if "fo_cookie" in item}
    whole = msgspec.json.encode(report).decode()
    assert not any(item["fo_cookie"] in whole for item in shown if "fo_cookie" in item)


def test_cookie_requests_are_counted_where_fast_open_is_off() -> None:
    with two_hosts() as hosts, service(hosts.client, hosts.server) as served:
        hosts.server.run("sysctl", "-qw", "net.ipv4.tcp_fastopen=1")
        served.exchange(fast_open=True)
        report = doctor(hosts.server)
        assert report.counters["TCPFastOpenCookieReqd"] == 1
        assert report.counters["TCPFastOpenPassive"] == 0
        trap = find(report, "counters", "cookie_requests")
        assert trap.level is Level.WARNING
        assert "before it checks whether Fast Open is on" in trap.text


def test_the_blackhole_timeout_and_its_counter(host: NetBox) -> None:
    host.run("sysctl", "-qw", "net.ipv4.tcp_fastopen_blackhole_timeout_sec=0")
    report = doctor(host)
    assert find(report, "settings", "blackhole").level is Level.OK
    assert "stays 0" in find(report, "counters", "blackhole").text
    host.run("sysctl", "-qw", "net.ipv4.tcp_fastopen_blackhole_timeout_sec=3600")
    report = doctor(host)
    assert "3600 s" in find(report, "settings", "blackhole").text
    assert find(report, "counters", "blackhole").level is Level.OK


# --- tracing: hooks, neighbours, privilege ---


def test_a_bare_host_can_trace(host: NetBox) -> None:
    report = doctor(host)
    assert report.root
    for word in ("kernel", "privilege", "lockdown", "memlock", "bcc", "programs", "hook"):
        assert find(report, "tracing", word).level is Level.OK
    assert [(item.name, item.hook) for item in report.interfaces] == [("lo", BY_DEFAULT.value)]
    jsonschema.validate(json.loads(msgspec.json.encode(report)), json_schema())


def test_other_programs_are_named_and_left_alone(box: NetBox) -> None:
    xdp = Counting.make(XDP, XDP_PASS, "foreign_xdp")
    left = interfaces.find("left").index
    link = bpfsys.link_create_xdp(xdp.fd, left, bpfsys.XDP_FLAGS_SKB_MODE)
    try:
        with foreign_filter("left", egress=False) as ingress, foreign_filter("left", egress=True) as egress:
            box.run("tc", "filter", "add", "dev", "left", "ingress", "prio", "9", "protocol", "ip",
                    "u32", "match", "u32", "0", "0", "classid", "1:1")  # fmt: skip
            with foreign_tcx("left", egress=True) as tcx:
                before = box.run("bpftool", "-j", "net")
                report = doctor(box, "left")
                assert box.run("bpftool", "-j", "net") == before
                seen = json.loads(before)[0]
                assert [item["id"] for item in seen["xdp"]] == [xdp.id]
                assert {item.get("id") or item.get("prog_id") for item in seen["tc"]} >= {ingress.id, egress.id}
                ids = [xdp.id, tcx.id, ingress.id, egress.id]
    finally:
        os.close(link)
        xdp.close()
    first = find(report, "tracing", "xdp_first")
    assert first.level is Level.WARNING
    assert f'"foreign_xdp" (id {ids[0]}) at generic level' in first.text
    (view,) = report.interfaces
    assert view.hook == BY_DEFAULT.value
    assert len(view.others) == 5
    assert all(any(f"(id {number})" in words for words in view.others) for number in ids)
    beside = find(report, "tracing", "beside").text
    for words in (
        'TCX egress program "foreign"',
        "tc ingress filter prio 1 bpf",
        "tc egress filter prio 1 bpf",
        "tc ingress filter prio 9 u32",
    ):
        assert words in beside
    assert report.exit_code == 0


def test_a_kernel_without_tcx(box: NetBox, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_tcx(*_: int) -> tuple[int, ...]:
        raise OSError(errno.EINVAL, "as before Linux 6.6")

    monkeypatch.setattr(bpfsys, "tcx_query", no_tcx)
    left, right = interfaces.find("left"), interfaces.find("right")
    view, found = hooks.look(left, (6, 1))
    assert (view.hook, found) == ("clsact", [])
    # an `ingress` qdisc takes clsact's place: attaching says the same (test_attach.py)
    box.run("tc", "qdisc", "add", "dev", "right", "ingress")
    view, (problem,) = hooks.look(right, (6, 1))
    assert view.hook is None
    assert (problem.id, problem.level, problem.prevents_tracing) == ("ingress_qdisc", Level.PROBLEM, True)
    assert problem.command is not None
    box.run(*problem.command.partition("#")[0].split())
    assert hooks.look(right, (6, 1))[0].hook == "clsact"
    # loopback is traced at egress, which that qdisc does not have either
    loopback = interfaces.find("lo")
    assert "at egress only" in hooks.look(loopback, (6, 1))[0].why
    box.run("tc", "qdisc", "add", "dev", "lo", "ingress")
    view, found = hooks.look(loopback, (6, 1))
    assert view.hook is None
    assert "ingress_qdisc" in [one.id for one in found]


def test_members_of_a_group_and_any(box: NetBox) -> None:
    assert [item.name for item in doctor(box, "left+right").interfaces] == ["left", "right"]
    assert {item.name for item in doctor(box, "any").interfaces} == {"left", "right"}


def test_a_forked_server_is_every_process_that_holds_the_listener(host: NetBox) -> None:
    script = "import os, time; os.fork(); os.fork(); print(flush=True); time.sleep(60)"
    with listening(host, queue=20) as listener:
        words = [sys.executable, "-I", "-c", script]
        server = subprocess.Popen(words, stdout=subprocess.PIPE, pass_fds=(listener.fileno(),), start_new_session=True)
        try:
            assert server.stdout is not None
            for _ in range(4):
                assert server.stdout.readline() == b"\n"
            (item,) = doctor(host).listeners
            assert {process.pid for process in item.processes} == {os.getpid(), *members(server.pid)}
            assert len(item.processes) == 5
            assert item.queue == 20
        finally:
            for pid in members(server.pid):
                os.kill(pid, signal.SIGKILL)
            server.wait(PATIENCE_S)
            server.stdout.close()


def test_an_interface_that_is_down_and_one_that_is_not_there(box: NetBox) -> None:
    box.run("ip", "link", "set", "left", "down")
    report = doctor(box, "left", "right")
    assert report.exit_code == 3
    assert find(report, "tracing", "link_down").command == "ip link set left up"
    done = run("doctor", "none", prefix=[*_Kept.prefix, *box.command()])
    assert done.code == 2
    assert done.said == ['tfotrace: no interface named "none" here; there are: lo, right, left']


def test_it_changes_nothing(box: NetBox, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    box.run("sysctl", "-qw", "net.ipv4.tcp_fastopen=3")

    def state() -> list[str]:
        sysctls = box.run("sysctl", "-a", "--pattern", "^net.ipv4.tcp")
        return [sysctls, box.run("tc", "qdisc"), box.run("bpftool", "-j", "net"), box.run("ip", "-d", "link")]

    with listening(box, queue=5):
        before = state()
        done = run("doctor", prefix=[*with_run_dir(folder), *box.command()])
        assert (done.code, done.said) == (0, [])
        assert state() == before
    assert list(folder.rglob("*")) in ([], [folder / KEPT_PROGRAMS])  # with_run_dir() may have made that one
    assert b"the kernel accepts the tracing programs" in done.out.replace(b"\n           ", b" ")


def test_as_an_ordinary_user(box: NetBox) -> None:
    box.run("sysctl", "-qw", "net.ipv4.tcp_fastopen=3")
    xdp = Counting.make(XDP, XDP_PASS, "foreign_xdp")
    link = bpfsys.link_create_xdp(xdp.fd, interfaces.find("left").index, bpfsys.XDP_FLAGS_SKB_MODE)
    try:
        with listening(box, queue=5) as listener:
            report = doctor(box, as_nobody=True)
            port = listener.getsockname()[1]
            xdp_id = xdp.id
    finally:
        os.close(link)
        xdp.close()
    assert not report.root
    assert report.exit_code == 3
    found = levels(report)
    assert {word for word, level in found.items() if level == "problem"} == {"tracing.privilege"}
    unknown = {word for word, level in found.items() if level == "unknown"}
    unseen = {"tracing.programs_unseen"} if TCX_HERE else set()  # TCX links are listed to root only, filters to all
    assert unknown == {"tracing.programs", "settings.key", "listeners.not_asked"} | unseen
    assert found["settings.server"] == "ok"
    assert f"(id {xdp_id})" in find(report, "tracing", "xdp_first").text
    (item,) = report.listeners
    assert (item.port, item.fast_open, item.processes) == (port, None, ())
    assert item.unknown_because == "this user may not inspect its process"


def test_an_ordinary_user_cannot_enter_another_namespace(host: NetBox) -> None:
    done = run("doctor", "--netns", host.name, command=NOBODY)
    assert (done.code, done.out) == (3, b"")
    assert "cannot be entered without root" in done.said[0]


def test_another_namespace_and_commands_for_it(host: NetBox) -> None:
    host.run("sysctl", "-qw", "net.ipv4.tcp_fastopen=0")
    done = run("doctor", "--json", "--netns", host.name, prefix=_Kept.prefix)
    report = msgspec.json.decode(done.out, type=Report)
    assert (report.netns, done.code) == (host.path, 0)
    assert [item.name for item in report.interfaces] == ["lo"]
    command = find(report, "settings", "server").command
    assert command == f"nsenter --net={host.path} sysctl -w net.ipv4.tcp_fastopen=3"


def test_what_a_killed_run_left_is_told(box: NetBox, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o755)
    key = {"ifindex": 2, "parent": 0xFFFFFFF2, "priority": 1, "handle": 1, "program_id": 1, "name": "tfotrace-1-1"}
    entry = {"kind": "clsact", "interface": "left", "netns": 1, "loaded_ns": 1, "key": key}
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (folder / "1-1.json").write_text(json.dumps({"pid": 1, "boot": boot, "attachments": [entry]}) + "\n")
    done = run("doctor", "--json", prefix=[*with_run_dir(folder), *box.command()])
    report = msgspec.json.decode(done.out, type=Report)
    left = find(report, "tracing", "leftovers")
    assert (left.level, left.command) == (Level.WARNING, f"{shlex.join(COMMAND)} detach")
    assert "left" in left.text
    assert (folder / "1-1.json").exists()
