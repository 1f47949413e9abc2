"""What records say of the kernel's own word, between real kernels, traced at the client, the router and the server.

The kernel's trace of skb:kfree_skb is the judge: it names the same reason at the same place.
"""

from __future__ import annotations

import socket

import pytest

from tests.support.heard import FILTERED_AT, UNANSWERED_AT
from tests.support.hosts import REQUEST
from tests.support.kernel_reasons import SAYS_WHY_IT_RESETS, as_traced, has_reason
from tests.support.netbox import wait_until
from tests.support.routed import WIRE
from tests.support.stage import wait_for_queue
from tests.support.tracing import Run, tracing
from tests.support.word_world import BARE_ACK, BARE_SYN, CLIENT, PORT, SYN_ACK, World, is_not_certain
from tracer.lab.packet import MSS_1460, Flag, Segment, encode
from tracer.lab.sockets import DROP_ALL, attach
from tracer.records.drop import Drop
from tracer.records.record import Handshake

pytestmark = [pytest.mark.root, pytest.mark.slow]

TCP_MD5SIG, TCP_DEFER_ACCEPT = 14, 9


# --- SYNs ---


@pytest.mark.parametrize("version", [4, 6])
def test_a_closed_port(world: World, version: int) -> None:
    address = world.address(version)
    world.connect(address)
    records = world.says(address, world.server, "syn", "NO_SOCKET", f"tcp_v{version}_rcv", "no_listener")
    assert [one.handshake.result for one in records] == ["rejected"] * 3
    reason = "NO_SOCKET" if SAYS_WHY_IT_RESETS else None
    assert [one.handshake.reset.reason for one in records if one.handshake.reset] == [None, None, reason]


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        ("drop", "no_reply"),
        ("reject with tcp reset", "rejected"),
        ("reject with icmpx type admin-prohibited", "unreachable"),
    ],
)
@pytest.mark.parametrize("version", [4, 6])
def test_a_firewall_at_the_server(world: World, version: int, answer: str, result: str) -> None:
    address = world.address(version)
    world.listen(address)
    family = "ip6" if version == 6 else "ip"
    world.rule(world.hosts.first, "input", f"{family} daddr {address} {BARE_SYN} {answer}")
    world.connect(address)
    cause = "host_dropped" if answer == "drop" else "firewall_rejected"
    records = world.says(address, world.server, "syn", "NETFILTER_DROP", FILTERED_AT, cause)
    assert [one.handshake.result for one in records] == [result] * 3
    senders = [one.handshake.icmp.from_ for one in records if one.handshake.icmp is not None]
    assert senders == ([address] * 3 if result == "unreachable" else [])


def test_a_firewall_at_the_router(world: World) -> None:
    address = world.address()
    world.rule(world.hosts.router, "forward", f"ip daddr {address} drop")
    world.connect(address)
    for run in (world.client, world.router):
        assert world.seen(run, address).handshake.drop == Drop(
            "syn", "NETFILTER_DROP", FILTERED_AT, None if run is world.router else world.netns(world.router)
        )
    router = world.seen(world.router, address).handshake
    assert (router.cause, router.cause_confidence, router.cause_at) == ("not_forwarded", "certain", "this_host")
    assert not [one for one in world.server.handshakes if one.server.ip == address]


def test_reverse_path_filter(world: World) -> None:
    address, source = world.address(), "10.98.3.7"
    world.listen(address)
    box = world.hosts.first
    box.run("ip", "route", "add", "10.98.3.7/32", "dev", "lo")
    world.opened.callback(box.run, "ip", "route", "del", "10.98.3.7/32", "dev", "lo")
    box.run("sysctl", "-qw", f"net.ipv4.conf.{WIRE}.rp_filter=1")
    world.opened.callback(box.run, "sysctl", "-qw", f"net.ipv4.conf.{WIRE}.rp_filter=0")
    world.connect(address, source)
    world.says(address, world.server, "syn", "IP_RPFILTER", "ip_rcv_finish_core")


def test_md5_at_one_end(world: World) -> None:
    address = world.address()
    listener = world.listen(address)
    key = b"\x02\0" + bytes(2) + socket.inet_aton(CLIENT[4])
    listener.setsockopt(
        socket.IPPROTO_TCP, TCP_MD5SIG, key.ljust(128, b"\0") + b"\0\0\x04\0" + bytes(4) + b"word".ljust(80, b"\0")
    )
    world.connect(address)
    world.says(address, world.server, "syn", "TCP_MD5NOTFOUND", "tcp_v4_rcv")


def test_old_timestamps(world: World) -> None:
    """A SYN for a connection in TIME_WAIT, with a timestamp of long ago."""
    address = world.address()
    listener = world.listen(address)
    hosts = world.hosts
    client = world.opened.enter_context(hosts.connect(listener))
    port: int = client.getsockname()[1]
    child, _ = listener.accept()
    child.close()  # the server is the first to close
    assert client.recv(1) == b""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes(8))
    client.close()
    before = world.seen(world.server, address).syn.ts_val
    assert before is not None
    with hosts.client.inside():
        raw = world.opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP))
    stamps = b"\x01\x01\x08\x0a" + ((before - 100_000) % (1 << 32)).to_bytes(4, "big") + bytes(4)
    world.rule(hosts.client, "output", f"ip daddr {address} tcp flags & rst == rst drop")
    number = 0xDEADBEEF
    raw.sendto(encode(Segment(port, PORT, number, 0, Flag.SYN, MSS_1460 + stamps), CLIENT[4], address), (address, 0))
    record = world.server.wait_handshake(lambda one: one.server.ip == address and one.syn.seq == number)
    if has_reason("TCP_RFC7323_TW_PAWS"):
        assert record.handshake.drop == Drop("syn", "TCP_RFC7323_TW_PAWS", "tcp_v4_rcv", None)
        assert (record.handshake.cause, record.handshake.cause_confidence) == ("host_dropped", "certain")
    else:
        assert record.handshake.drop is None
        assert (record.handshake.cause, record.handshake.cause_confidence) == ("port_still_in_use", "likely")
    assert world.judge.knows(as_traced("TCP_RFC7323_TW_PAWS"), "tcp_v4_rcv")


def test_a_wrong_checksum(world: World) -> None:
    address = world.address()
    world.listen(address)
    with world.hosts.client.inside():
        raw = world.opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP))
    segment = bytearray(encode(Segment(40000, PORT, 7, 0, Flag.SYN, MSS_1460), CLIENT[4], address))
    segment[16] ^= 0xFF
    raw.sendto(bytes(segment), (address, 0))
    world.says(address, world.server, "syn", "TCP_CSUM", "tcp_v4_rcv")


@pytest.mark.parametrize("kind", ["blackhole", "unreachable", "prohibit"])
def test_routes_that_lead_nowhere(world: World, kind: str) -> None:
    address = world.address()
    box = world.hosts.router
    box.run("ip", "route", "add", kind, f"{address}/32")
    world.opened.callback(box.run, "ip", "route", "del", kind, f"{address}/32")
    world.connect(address)
    for run in (world.client, world.router):
        record = world.seen(run, address)
        own = run is world.router
        assert record.handshake.result == ("no_reply" if kind == "blackhole" else "unreachable")
        if own:
            assert record.handshake.cause == "not_forwarded"
        assert record.handshake.drop == Drop(
            "syn", "NOT_SPECIFIED", "ip_error", None if own else world.netns(world.router)
        )
    assert world.judge.knows("NOT_SPECIFIED", "ip_error")


def test_a_neighbour_that_does_not_answer(world: World) -> None:
    address = "10.98.1.77"
    world.connect(address, stay=True)
    for run in (world.client, world.router):
        drop = world.seen(run, address).handshake.drop
        assert drop is not None
        netns = None if run is world.router else world.netns(world.router)
        assert (drop.segment, drop.reason, drop.netns) == ("syn", "NEIGH_FAILED", netns)
        assert drop.at in UNANSWERED_AT
        assert world.judge.knows("NEIGH_FAILED", drop.at)


# --- SYN-ACKs and ACKs ---


def test_a_firewall_that_drops_the_answer(world: World) -> None:
    address = world.address()
    world.listen(address)
    world.rule(world.hosts.first, "output", f"ip saddr {address} {SYN_ACK} drop")
    world.connect(address)
    records = world.says(address, world.server, "synack", "NETFILTER_DROP", FILTERED_AT)
    assert [one.handshake.result for one in records] == ["no_reply"] * 3


def test_a_firewall_at_the_client_that_drops_the_answer(world: World) -> None:
    address = world.address()
    world.listen(address)
    world.rule(world.hosts.client, "input", f"ip saddr {address} {SYN_ACK} drop")
    world.connect(address, stay=True)
    records = world.says(address, world.client, "synack", "NETFILTER_DROP", FILTERED_AT)
    assert [one.handshake.result for one in records] == ["half_open"] * 3


@pytest.mark.parametrize("at_client", [True, False])
def test_a_firewall_that_drops_the_ack(world: World, at_client: bool) -> None:
    address = world.address()
    world.listen(address)
    if at_client:
        world.rule(world.hosts.client, "output", f"ip daddr {address} {BARE_ACK} drop")
    else:
        world.rule(world.hosts.first, "input", f"ip daddr {address} {BARE_ACK} drop")
    world.connect(address, stay=True)
    records = world.says(address, world.client if at_client else world.server, "ack", "NETFILTER_DROP", FILTERED_AT)
    assert [one.handshake.result for one in records] == ["half_open" if at_client else "established"] * 3


# --- some of them went on ---


def limit(what: str) -> str:
    return f"{what} limit rate over 1/hour burst 1 packets drop"


def again(world: World, address: str) -> None:
    """A client that sends its SYN twice, and no more: each one puts off the settling of what saw it."""
    world.connect(address, stay=True, syns=2)
    wait_until(lambda: any(one.server.ip == address for one in world.server.handshakes), "a record")


@pytest.mark.parametrize("where", ["router", "client"])
def test_a_rule_that_lets_one_syn_pass_is_not_the_cause(world: World, where: str) -> None:
    """The server's host drops that one: there the cause is certain, and only there."""
    address = world.address()
    world.listen(address)
    world.rule(world.hosts.first, "input", f"ip daddr {address} {BARE_SYN} drop")
    box, hook = (world.hosts.router, "forward") if where == "router" else (world.hosts.client, "output")
    world.rule(box, hook, limit(f"ip daddr {address} {BARE_SYN}"))
    again(world, address)
    assert world.seen(world.server, address).handshake.cause == "host_dropped"
    for run in (world.client, world.router):
        assert is_not_certain(world.seen(run, address))


def test_a_rule_that_lets_one_answer_pass_is_not_the_cause(world: World) -> None:
    address = world.address()
    world.listen(address)
    world.rule(world.hosts.router, "forward", f"ip saddr {address} {SYN_ACK} drop")
    world.rule(world.hosts.first, "output", limit(f"ip saddr {address} {SYN_ACK}"))
    again(world, address)
    record = world.seen(world.server, address)
    assert (record.handshake.result, record.handshake.synack_count) == ("half_open", 1)
    assert record.handshake.drop == Drop("synack", "NETFILTER_DROP", FILTERED_AT, None)
    assert is_not_certain(record)


def test_copies_for_others_are_not_the_segment(world: World) -> None:
    """A raw socket whose filter takes nothing, beside a listener whose accept queue is full."""
    address = world.address()
    listener = world.opened.enter_context(world.hosts.listen(world.hosts.first, address, PORT, backlog=0))
    with world.hosts.first.inside():
        raw = world.opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP))
    attach(raw, DROP_ALL)
    world.opened.enter_context(world.hosts.connect(listener))
    wait_for_queue(listener, 1)
    world.connect(address)
    record = world.server.wait_handshake(lambda one: one.server.ip == address and one.handshake.result == "no_reply")
    assert world.judge.knows("SOCKET_FILTER", "raw_rcv")
    assert record.handshake.drop is None
    assert record.handshake.cause != "host_dropped"


# --- connections that work ---


def test_working_connections_say_nothing(world: World) -> None:
    """Ordinary ones, one with DEFER_ACCEPT whose ACK is freed for no reason, one whose data is purged."""
    address = world.address()
    listener = world.listen(address)
    for _ in range(20):
        world.hosts.exchange_plainly(listener)
        world.hosts.exchange(listener)
    deferring = world.listen(world.address())
    deferring.setsockopt(socket.IPPROTO_TCP, TCP_DEFER_ACCEPT, 5)
    for _ in range(5):
        world.hosts.exchange_plainly(deferring)
    unread = world.listen(world.address())
    client = world.opened.enter_context(world.hosts.connect(unread))
    client.sendall(REQUEST)
    child, _ = unread.accept()
    child.sendall(b"answer")
    assert client.recv(6) == b"answer"
    child.close()  # with data that nobody read
    addresses = {one.getsockname()[0] for one in (listener, deferring, unread)}

    def of(run: Run) -> list[Handshake]:
        return [one for one in run.handshakes if one.server.ip in addresses]

    wait_until(lambda: all(len(of(run)) >= 46 for run in (world.client, world.server)), "all records")
    for run in world.places:
        assert {(one.handshake.drop, one.handshake.cause) for one in of(run)} == {(None, None)}


def test_deferred_accept_without_data_is_no_drop(world: World) -> None:
    address = world.address()
    listener = world.listen(address)
    listener.setsockopt(socket.IPPROTO_TCP, TCP_DEFER_ACCEPT, 5)
    world.connect(address, stay=True)
    record = world.seen(world.server, address)
    assert record.handshake.after in ("synack_again", "silence")
    assert record.handshake.drop is None
    assert world.judge.knows("NOT_SPECIFIED", "tcp_v4_rcv")


def test_off_on_request(world: World) -> None:
    address = world.address()
    with tracing(WIRE, "--json", "--no-kernel-reasons", "--netns", world.hosts.first.name) as quiet:
        assert quiet.start.evidence is not None
        assert not quiet.start.evidence.drop_reasons
        world.connect(address)
        record = quiet.wait_handshake(lambda one: one.server.ip == address)
        assert record.handshake.drop is None
        assert record.handshake.reset is not None
        assert record.handshake.reset.reason is None
        quiet.stop()
    assert quiet.end.counters["drops"] == 0
