"""How a run ends, and what is true at any end: exit code, `end` record, summary, nothing attached."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.support.hooks import TCX_HERE, tc_programs
from tests.support.hosts import WIRE, Hosts, Service
from tests.support.netbox import wait_until
from tests.support.patience import PATIENCE_S
from tests.support.tracing import (
    Run,
    assert_balanced,
    decode,
    members,
    session_of,
    starting,
    tracing,
)
from tracer.linux import interfaces
from tracer.records.record import Handshake
from tracer.records.run import End, Start

pytestmark = pytest.mark.root

BPF_MAP_TYPE_RINGBUF = 27


@contextmanager
def exchanges_going_on(web: Service) -> Iterator[None]:
    """Connections one after the other until the block is left."""
    stop = threading.Event()

    def go_on() -> None:
        while not stop.wait(0.005):
            web.exchange()

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def programs(hosts: Hosts) -> list[object]:
    with hosts.client.inside():
        index = interfaces.find(WIRE).index
        return tc_programs(index)


def summary(run: Run) -> str:
    (line,) = [line for line in run.said if re.search(r" handshakes?(: .*,)? in ", line)]
    return line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda one: one.name)
def test_a_signal_ends_it_as_asked(hosts: Hosts, web: Service, number: signal.Signals) -> None:
    with tracing(WIRE, "--json", "--netns", hosts.client.name) as run:
        run.wait_port(web.exchange(fast_open=True))
        assert run.stop(number) == 0
        assert (run.end.exit_code, run.end.reason) == (0, number.name)
        assert_balanced(run.end)
        assert summary(run).startswith("tfotrace: 1 handshake in ")
        assert "nothing lost" in run.said[-1]
        assert not members(run.user_part)
    assert programs(hosts) == []


def test_ctrl_c_reaches_both_parts_and_ends_in_order(hosts: Hosts, web: Service) -> None:
    with tracing(WIRE, "--json", "--netns", hosts.client.name) as run:
        run.wait_port(web.exchange())
        os.killpg(run.user_part, signal.SIGINT)  # as a terminal does
        assert run.wait_end() == 0
        assert_balanced(run.end)
        assert not members(run.user_part)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda one: one.name)
def test_a_signal_to_everybody_while_it_loads_ends_it_as_asked(hosts: Hosts, number: signal.Signals) -> None:
    with starting(WIRE, "--json", "--netns", hosts.client.name) as run:

        def loading() -> bool:
            return len(members(run.user_part)) == 3  # user part, root part, and the one that compiles

        wait_until(loading, "three processes", PATIENCE_S)
        os.killpg(run.user_part, number)  # as a terminal or systemd does
        assert run.wait_end() == 0, run.said
        assert run.said == []
        wait_until(lambda: not members(run.user_part), "every process to end", PATIENCE_S)
    assert programs(hosts) == []


def test_a_signal_to_everybody_ends_it_as_asked_whoever_is_first(hosts: Hosts) -> None:
    with tracing(WIRE, "--json", "--netns", hosts.client.name) as run:
        root_part = run.root_part
        # systemd's stop: both parts get it, and here the root part has left before the user part looks
        os.kill(run.user_part, signal.SIGSTOP)
        os.killpg(run.user_part, signal.SIGTERM)
        wait_until(lambda: session_of(root_part) == -1, "the root part to end", PATIENCE_S)
        os.kill(run.user_part, signal.SIGCONT)
        assert run.wait_end() == 0, run.said
        assert (run.end.exit_code, run.end.reason) == (0, "SIGTERM")
        assert_balanced(run.end)


def test_nohup_is_respected(hosts: Hosts, web: Service) -> None:
    with tracing(WIRE, "--json", "--netns", hosts.client.name, prefix=["nohup"]) as run:
        os.killpg(run.user_part, signal.SIGHUP)  # the terminal is closed
        assert run.wait_port(web.exchange()).handshake.result == "established"
        assert run.stop(signal.SIGTERM) == 0
        assert run.end.reason == "SIGTERM"


def test_records_come_one_by_one_as_they_settle(
    hosts: Hosts, web: Service, record_property: Callable[[str, object], None]
) -> None:
    """The delays from settling to reading are noted, not judged: a busy machine proves nothing."""
    with tracing(WIRE, "--json", "--netns", hosts.client.name) as run:
        ports, delays_ms = [], []
        for _ in range(5):
            ports.append(web.exchange())
            record = run.wait_port(ports[-1])  # before the next one begins, so nothing waits for company
            assert record.handshake.settled_by == "response"
            assert record.handshake.first_response_us is not None
            settled = (
                np.datetime64(record.ts.removesuffix("Z"), "ns").astype(int) + record.handshake.first_response_us * 1000
            )
            delays_ms.append(round((run.arrivals[-1] - int(settled)) / 1e6, 3))
        assert run.stop() == 0
        assert [record.client.port for record in run.handshakes] == ports
    record_property("delay_ms", delays_ms)
    print("ms from settling to reading:", *delays_ms)


def test_sigterm_to_the_root_part_ends_early_and_in_order(hosts: Hosts, web: Service) -> None:
    with tracing(WIRE, "--json", "--netns", hosts.client.name) as run:
        run.wait_port(web.exchange())
        os.kill(run.root_part, signal.SIGTERM)
        assert run.wait_end() == 4
        assert run.end.exit_code == 4
        assert "SIGTERM" in run.end.reason
        assert_balanced(run.end)


def test_count_is_exact_while_more_is_going_on(hosts: Hosts, web: Service) -> None:
    with tracing(WIRE, "--json", "-w", "{folder}/file", "--count", "7", "--netns", hosts.client.name) as run:
        with exchanges_going_on(web):
            assert run.wait_end() == 0
        assert len(run.handshakes) == run.end.totals.handshakes == 7
        assert run.end.reason == "count"
        assert_balanced(run.end)
        assert (run.folder / "file").read_bytes() == b"".join(run.lines)


def test_duration_ends_it(hosts: Hosts) -> None:
    with tracing(WIRE, "--json", "--duration", "1", "--netns", hosts.client.name) as run:
        assert run.wait_end() == 0
        assert (run.end.reason, run.end.totals.handshakes) == ("duration", 0)
        assert run.end.duration_s >= 1
        assert isinstance(run.start, Start)


def test_an_open_handshake_is_settled_as_it_stands(hosts: Hosts, web: Service) -> None:
    # established, and the server has not answered yet: neither data nor FIN settle it before the end does
    with (
        tracing(WIRE, "--json", "--response-timeout", "1000", "--netns", hosts.client.name) as run,
        hosts.client.inside(),
    ):
        with socket.create_connection(web.address) as client:
            server, _ = web.listener.accept()
            with server:
                assert run.stop() == 0
            port = client.getsockname()[1]
        (record,) = run.handshakes
        assert (record.client.port, record.handshake.settled_by) == (port, "at_end")
        assert record.handshake.result == "established"
        assert_balanced(run.end)


def test_a_reader_that_leaves_ends_it_as_asked(hosts: Hosts, web: Service) -> None:
    with tracing(WIRE, "--json", "-w", "{folder}/file", "--netns", hosts.client.name) as run:
        run.wait_port(web.exchange())
        assert run.process.stdout is not None
        # the reader thread sits in read(2): another descriptor takes the pipe's place, and the pipe's end is gone
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, run.process.stdout.fileno())
        os.close(null)
        with exchanges_going_on(web):
            assert run.process.wait(PATIENCE_S) == 0
        lines = (run.folder / "file").read_bytes().splitlines(keepends=True)
        last = decode(lines[-1])
        assert isinstance(last, End)  # the file is complete
        assert last.exit_code == 0
        assert len(lines) >= 4
    assert programs(hosts) == []


def test_a_full_disk_ends_it_early_with_one_sentence(hosts: Hosts, web: Service) -> None:
    with tracing(WIRE, "--json", "-w", "/dev/full", "--netns", hosts.client.name) as run:
        assert run.wait_end() == 4
        told = [line for line in run.said if "No space left" in line]
        assert told == ["tfotrace: cannot write to /dev/full: No space left on device"]
        assert run.end.exit_code == 4  # standard output is as complete as ever
        assert not members(run.user_part)
    assert programs(hosts) == []


def test_a_file_that_reaches_its_limit_ends_it_early(hosts: Hosts, web: Service) -> None:
    limit = ["prlimit", "--fsize=20000", "--"]
    with tracing(WIRE, "--json", "-w", "{folder}/file", "--netns", hosts.client.name, prefix=limit) as run:
        with exchanges_going_on(web):
            assert run.wait_end() == 4
        assert sum("cannot write to" in line and "File too large" in line for line in run.said) == 1
        assert not any("Traceback" in line for line in run.said)
        written = [decode(line) for line in (run.folder / "file").read_bytes().splitlines(keepends=True)[:-1]]
        assert sum(isinstance(record, Handshake) for record in written) > 0
        assert_balanced(run.end)


@pytest.mark.parametrize("how", ["--user", "sudo"])
def test_the_part_that_people_see_is_not_root(hosts: Hosts, web: Service, how: str) -> None:
    env = {"SUDO_UID": "65534", "SUDO_GID": "65534", "SUDO_USER": "nobody"} if how == "sudo" else {}
    words = ("--user", "nobody") if how == "--user" else ()
    with tracing(WIRE, "--json", "-w", "{folder}/file", "--netns", hosts.client.name, *words, env=env) as run:
        record = run.wait_port(web.exchange(fast_open=True))
        assert record.payload is None or record.payload.captured
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{run.user_part}/status").read_text().splitlines())
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"65534"}
        assert "0" not in status["Groups"].split()
        assert status["NoNewPrivs"] == "1"
        assert {int(status[f"Cap{kind}"], 16) for kind in ("Eff", "Prm", "Inh", "Amb")} == {0}
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{run.root_part}/status").read_text().splitlines())
        assert set(status["Uid"].split()) == {"0"}

        held = {who: descriptors(pid) for who, pid in (("user", run.user_part), ("root", run.root_part))}
        # rings, as DESIGN.md section 6 allows, and no program, link or any other map
        assert {target for target in held["user"] if "bpf" in target} <= {"anon_inode:bpf-map"}
        assert map_types(run.user_part) <= {BPF_MAP_TYPE_RINGBUF}
        assert len(map_types(run.root_part)) > 2
        assert {"anon_inode:bpf-prog", "anon_inode:bpf-map"} <= set(held["root"])
        links = [target for target in held["root"] if "bpf" in target and "link" in target]
        evidence = run.start.evidence
        assert evidence is not None
        assert len(links) == (2 if TCX_HERE else 0) + evidence.drop_reasons + evidence.reset_reasons
        # nothing of the user's may be reached through the root part either
        assert not [target for target in held["root"] if target.endswith("/file")]
        for name in ("file", "ready"):
            assert (run.folder / name).stat().st_uid == 65534
        assert run.stop() == 0
        assert_balanced(run.end)
        assert not any("running as root" in line for line in run.said)


def descriptors(pid: int) -> list[str]:
    folder = f"/proc/{pid}/fd"
    return [os.readlink(f"{folder}/{name}") for name in os.listdir(folder)]


def map_types(pid: int) -> set[int]:
    """enum bpf_map_type of every map that a process has a descriptor of."""
    folder = f"/proc/{pid}/fdinfo"
    lines = [line for name in os.listdir(folder) for line in Path(folder, name).read_text().splitlines()]
    return {int(line.split()[1]) for line in lines if line.startswith("map_type:")}


def test_llvm_is_mapped_by_nobody_who_stays(hosts: Hosts) -> None:
    with tracing(WIRE, "--json", "--netns", hosts.client.name) as run:
        for pid in members(run.user_part):
            mapped = Path(f"/proc/{pid}/maps").read_text()
            assert "libbcc" not in mapped
            assert "LLVM" not in mapped
        assert len(members(run.user_part)) == 2


def test_the_file_is_not_opened_with_more_rights_than_the_user_has(hosts: Hosts) -> None:
    with starting("-w", "/etc/tfotest", WIRE, "--user", "nobody", "--netns", hosts.client.name) as run:
        assert run.wait_end() == 2
        assert "tfotrace: cannot write to /etc/tfotest: Permission denied" in run.said


def test_losses_of_a_full_table_are_counted_and_told(hosts: Hosts, web: Service) -> None:
    # eight places: what is open beyond them is evicted, and every one of these is counted
    with tracing(
        WIRE, "--json", "--table-size", "8", "--response-timeout", "1000", "--netns", hosts.client.name
    ) as run:
        clients = []
        with hosts.client.inside():
            for _ in range(12):
                client = socket.create_connection(web.address)
                server, _ = web.listener.accept()
                clients += [client, server]
        run.wait_notice("losses")
        assert run.stop() == 0
        for one in clients:
            one.close()
        assert_balanced(run.end)
        assert (run.end.balance.opened, run.end.balance.evicted) == (12, 4)
        assert len(run.handshakes) == 8
        assert "tfotrace: 4 handshakes lost: 4 table full" in run.said[-1]


def test_cookies_are_shown_only_when_asked_for(hosts: Hosts, web: Service) -> None:
    hosts.client.run("ip", "tcp_metrics", "flush")
    words = (WIRE, "--json", "--netns", hosts.client.name)
    with (
        tracing(*words, "-w", "{folder}/file") as quiet,
        tracing(*words, "--show-cookies") as open_one,
        tracing(WIRE, "--text", "--netns", hosts.client.name) as text,
    ):
        ports = [web.exchange(fast_open=True), web.exchange(fast_open=True)]
        shown = [open_one.wait_port(port) for port in ports]
        hidden = [quiet.wait_port(port) for port in ports]
        wait_until(lambda: len(text.lines) == 2 + 2, "two lines of text below the head", PATIENCE_S)
        for run in (quiet, open_one, text):
            assert run.stop() == 0
        file = (quiet.folder / "file").read_bytes()
    # the kernel's own word on what the cookie is
    metrics = hosts.client.run("ip", "tcp_metrics", "show", web.address[0]).split()
    cookie = metrics[metrics.index("fo_cookie") + 1]
    assert len(cookie) == 16
    asked, used = shown
    assert (asked.tfo.cookie, asked.tfo.synack_cookie) == (None, cookie)
    assert (used.tfo.cookie, used.tfo.synack_cookie) == (cookie, None)
    assert [one.tfo.synack_cookie_len for one in hidden] == [8, None]
    assert [one.tfo.cookie_len for one in hidden] == [0, 8]
    for run_records in (shown, hidden):
        granted, sent = run_records
        assert granted.tfo.synack_cookie_id == sent.tfo.cookie_id
        assert sent.tfo.cookie_id is not None
        assert len(sent.tfo.cookie_id) == 8
    # under a key of the run: another run, another name for the same cookie
    assert shown[1].tfo.cookie_id != hidden[1].tfo.cookie_id
    assert {(one.tfo.cookie, one.tfo.synack_cookie) for one in hidden} == {(None, None)}
    everything = b"".join(quiet.lines) + file + b"".join(text.lines) + "".join(quiet.said + text.said).encode()
    raw = bytes.fromhex(cookie)
    for form in (cookie, cookie.upper(), raw[::-1].hex(), " ".join(f"{byte:02x}" for byte in raw)):
        assert form.encode() not in everything
    assert raw not in everything
    assert str(int.from_bytes(raw, "big")).encode() not in everything
    assert str(int.from_bytes(raw, "little")).encode() not in everything
