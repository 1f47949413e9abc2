"""Records of SYNs that the client's own host dropped before a hook saw them, between real kernels."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path

import pytest

from tests.support.netbox import wait_until
from tests.support.patience import KEPT_BACK
from tests.support.routed import WIRE, Routed, routed, service_address
from tests.support.tracing import Run, assert_balanced, tracing
from tests.support.tracing import run as command
from tracer.records.record import Handshake

pytestmark = [pytest.mark.root, pytest.mark.slow]

PORT, TCP_SYNCNT = 8443, 7
CLIENT = {4: "10.98.0.2", 6: "fd00:98:0::2"}
_numbers = count(1)


@pytest.fixture(scope="module")
def hosts() -> Iterator[Routed]:
    with routed() as made:
        made.client.run("sysctl", "-qew", "net.ipv4.tcp_syn_linear_timeouts=0")  # four SYNs more, since Linux 6.5
        yield made


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def run(hosts: Routed) -> Iterator[Run]:
    with tracing(WIRE, "--json", "--netns", hosts.client.name, "--response-timeout", "2") as made:
        yield made


def begin(
    hosts: Routed, opened: ExitStack, address: str, again: int = 1, *, close: bool = True
) -> tuple[int, socket.socket]:
    """A client that begins to connect, and sends its SYN `again` unless it gives up at once; its port."""
    version = 6 if ":" in address else 4
    with hosts.client.inside():
        client = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET)
    opened.callback(client.close)
    client.bind((CLIENT[version], 0))
    port: int = client.getsockname()[1]
    client.setblocking(False)
    if not close:
        client.setsockopt(socket.IPPROTO_TCP, TCP_SYNCNT, again)
    with suppress(BlockingIOError, OSError):
        client.connect((address, PORT))
    if close:
        client.close()
    return port, client


def of(run: Run, port: int) -> list[Handshake]:
    return [one for one in run.handshakes if one.client.port == port]


def finish(run: Run) -> None:
    assert run.stop() == 0
    assert_balanced(run.end)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("hook", ["output", "postrouting"])
def test_the_clients_own_firewall(hosts: Routed, opened: ExitStack, run: Run, version: int, hook: str) -> None:
    address = service_address(next(_numbers), version)
    family = "ip6" if version == 6 else "ip"
    opened.enter_context(hosts.rule(hosts.client, hook, f"{family} daddr {address} drop"))
    port, _ = begin(hosts, opened, address)
    one = run.wait_port(port)
    assert (one.interface, one.hook, one.vantage, one.server.ip) == (None, "kernel", "client", address)
    told = one.handshake
    assert (told.result, told.settled_by, told.syn_count, told.synack_count) == ("no_reply", "timeout", 1, 0)
    assert (told.cause, told.cause_at) == ("host_dropped", "this_host")
    assert told.cause_confidence in KEPT_BACK
    assert told.drop is not None
    assert (told.drop.segment, told.drop.reason, told.drop.netns) == ("syn", "NETFILTER_DROP", None)
    assert (one.syn.mss, one.syn.sack_permitted, one.syn.ttl) == (1440 if version == 6 else 1460, True, 64)
    assert one.syn.ts_val
    assert one.syn.options[:3] == ("mss", "sack_permitted", "timestamps")
    finish(run)
    assert run.end.totals.results == {"no_reply": 1}
    assert run.end.totals.handshake_causes == {"host_dropped": 1}


def test_it_is_what_the_hook_would_have_said(hosts: Routed, opened: ExitStack, run: Run) -> None:
    """The same client without the rule: the SYN differs by its numbers only."""
    address = service_address(next(_numbers))
    with hosts.rule(hosts.client, "output", f"ip daddr {address} drop"):
        dropped, _ = begin(hosts, opened, address)
        unsent = run.wait_port(dropped)
    sent, _ = begin(hosts, opened, address)
    seen = run.wait_port(sent)
    assert seen.interface == WIRE
    assert unsent.signature == seen.signature
    for name in ("mss", "wscale", "window", "ttl", "ecn", "options", "payload_len", "sack_permitted", "ts_ecr"):
        assert getattr(unsent.syn, name) == getattr(seen.syn, name)


def test_its_retransmissions_are_one_record(hosts: Routed, opened: ExitStack, run: Run) -> None:
    address = service_address(next(_numbers))
    opened.enter_context(hosts.rule(hosts.client, "output", f"ip daddr {address} drop"))
    port, _ = begin(hosts, opened, address, 2, close=False)
    run.wait_port(port)
    finish(run)
    (one,) = of(run, port)
    assert (one.interface, one.handshake.syn_count) == (None, 3)


def test_a_neighbour_that_does_not_answer(hosts: Routed, opened: ExitStack, run: Run) -> None:
    port, _ = begin(hosts, opened, "10.98.0.77", close=False)
    one = run.wait_port(port)
    assert (one.interface, one.handshake.cause, one.handshake.cause_confidence) == (None, "host_dropped", "certain")
    assert one.handshake.drop is not None
    assert one.handshake.drop.reason == "NEIGH_FAILED"


def test_a_second_syn_that_leaves_takes_over(hosts: Routed, opened: ExitStack, run: Run) -> None:
    """An answered one, whose record comes long after the other would have been settled; and one without answer."""
    good, silent = service_address(next(_numbers)), "10.98.1.78"
    opened.enter_context(hosts.rule(hosts.router, "forward", f"ip daddr {silent} drop"))
    listener = opened.enter_context(hosts.listen(hosts.first, good, PORT))
    rule = opened.enter_context(ExitStack())
    rule.enter_context(hosts.rule(hosts.client, "output", f"ip daddr {{ {good}, {silent} }} tcp flags syn drop"))
    first, client = begin(hosts, opened, good, 3, close=False)
    second, _ = begin(hosts, opened, silent, 1, close=False)
    rule.close()
    child, _ = listener.accept()
    opened.callback(child.close)
    opened.callback(client.close)
    records = [run.wait_port(port) for port in (first, second)]
    assert [one.handshake.result for one in records] == ["established", "no_reply"]
    finish(run)
    for port in (first, second):
        (one,) = of(run, port)
        assert (one.interface, one.handshake.syn_count) == (WIRE, 1)
        assert one.handshake.cause_confidence != "certain"
    assert run.end.totals.handshakes == 2


def test_a_second_syn_by_another_interface(hosts: Routed, opened: ExitStack, run: Run) -> None:
    """The route changes to one that is not traced, where the client is served: nothing is said."""
    box = hosts.client
    with box.inside():
        away = opened.enter_context(socket.socket())
    target = "10.98.0.66"
    opened.enter_context(hosts.rule(box, "output", f'oifname "{WIRE}" ip daddr {target} drop'))
    away.bind((CLIENT[4], 0))
    away.setblocking(False)
    server = opened.enter_context(hosts.listen(box, "0.0.0.0", PORT))
    with suppress(BlockingIOError):
        away.connect((target, PORT))
    box.run("ip", "address", "add", f"{target}/32", "dev", "lo")
    opened.callback(box.run, "ip", "address", "del", f"{target}/32", "dev", "lo")
    server.settimeout(20)
    child, _ = server.accept()
    opened.callback(child.close)
    port = away.getsockname()[1]
    time.sleep(8)
    finish(run)
    assert not of(run, port)


def test_the_end_settles_it(hosts: Routed, opened: ExitStack, run: Run) -> None:
    address = service_address(next(_numbers))
    opened.enter_context(hosts.rule(hosts.client, "output", f"ip daddr {address} drop"))
    port, _ = begin(hosts, opened, address)
    wait_until(lambda: run.stop() == 0, "its end")
    assert_balanced(run.end)
    (one,) = of(run, port)
    assert (one.interface, one.handshake.settled_by, one.handshake.cause) == (None, "at_end", None)
    assert one.handshake.drop is not None


def test_what_came_in_or_goes_elsewhere_opens_none(hosts: Routed, opened: ExitStack, run: Run) -> None:
    """Dropped at the input, on loopback, and by a rule behind the hook; and ordinary connections beside them."""
    address = service_address(next(_numbers))
    listener = opened.enter_context(hosts.listen(hosts.first, address, PORT))
    opened.enter_context(hosts.rule(hosts.client, "output", "ip daddr 127.0.0.1 tcp dport 8443 drop"))
    with hosts.client.inside():
        local = opened.enter_context(socket.socket())
    local.setblocking(False)
    with suppress(BlockingIOError):
        local.connect(("127.0.0.1", PORT))
    opened.enter_context(hosts.rule(hosts.client, "input", "tcp dport 8444 drop"))
    with hosts.first.inside():
        stranger = opened.enter_context(socket.socket())
    stranger.setblocking(False)
    with suppress(BlockingIOError):
        stranger.connect((CLIENT[4], 8444))
    for _ in range(20):
        assert hosts.exchange_plainly(listener)
    finish(run)
    assert {one.interface for one in run.handshakes} == {WIRE}


def test_with_filter_it_is_left_out(hosts: Routed, opened: ExitStack) -> None:
    address = service_address(next(_numbers))
    opened.enter_context(hosts.rule(hosts.client, "output", f"ip daddr {address} drop"))
    with tracing(WIRE, "--json", "--netns", hosts.client.name, "--filter", "tcp port 8443") as run:
        begin(hosts, opened, address)
        finish(run)
    assert not run.handshakes


@pytest.mark.parametrize("form", ["--json", "--text"])
def test_all_outputs_and_replay(hosts: Routed, opened: ExitStack, form: str) -> None:
    address = service_address(next(_numbers))
    opened.enter_context(hosts.rule(hosts.client, "output", f"ip daddr {address} drop"))
    words = (WIRE, form, "-w", "{folder}/events.jsonl", "-w", "{folder}/trace.pcapng", "--netns", hosts.client.name)
    with tracing(*words) as run:
        begin(hosts, opened, address)
        run.stop()
        assert b'"interface":null,"hook":"kernel"' in (Path(run.folder) / "events.jsonl").read_bytes()
        again = command("replay", f"{run.folder}/events.jsonl", form)
        assert again.code == 0
        mark = b'"hook":"kernel"' if form == "--json" else b"no interface saw it"
        live = [line.rstrip(b"\n") for line in run.lines if address.encode() in line and mark in line]
        replayed = [line for line in again.out.splitlines() if address.encode() in line and mark in line]
        assert live == replayed
        assert len(live) == 1
