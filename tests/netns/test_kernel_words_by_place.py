"""What 6.18 says of each other way to lose a segment (TFO.md section 8), judged by the kernel's own trace of each test.

And what it says of connections that work, which is no cause and no drop.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

import pytest

from tests.support.heard import FILTERED_AT
from tests.support.kernel_reasons import NOT_SPECIFIED, as_traced, has_reason
from tests.support.netbox import wait_until
from tests.support.patience import KEPT_BACK
from tests.support.routed import TO_CLIENT, WIRE
from tests.support.stage import wait_for_queue
from tests.support.synproxy import syn_proxy
from tests.support.tracing import Run
from tests.support.word_world import BARE_ACK, BARE_SYN, CLIENT, PORT, SYN_ACK, World
from tracer.lab.packet import MSS_1460, Flag, Segment, decode, encode
from tracer.lab.sockets import DROP_ALL, attach
from tracer.records.record import Handshake

pytestmark = [pytest.mark.root, pytest.mark.slow]

IP_TTL, IP_MINTTL = 2, 21
ISN, STAMP = 1000, 5_000_000
TSECR = "TCP_RFC7323_TSECR"


def told(world: World, run: Run, address: str, segment: str, reason: str, *places: str) -> Handshake:
    """The record says this drop of this host at one of the places, and the kernel's own trace said it as well."""
    record = world.seen(run, address)
    drop = record.handshake.drop
    assert drop is not None
    assert (drop.segment, drop.reason, drop.netns) == (segment, reason, None)
    assert drop.at in places
    assert world.agrees(reason, drop.at or "", record, syn_only=segment == "syn")
    return record


def told_nothing(world: World, record: Handshake, place: str) -> Handshake:
    """A kernel without a name for it freed the segment for no reason, and so said its trace."""
    assert record.handshake.drop is None
    assert world.agrees(NOT_SPECIFIED, place, record, syn_only=False)
    return record


def cause(record: Handshake) -> tuple[str | None, str | None]:
    return record.handshake.cause, record.handshake.cause_confidence


# --- packet filters, at each place ---


@pytest.mark.parametrize(
    ("answer", "result"), [("tcp reset", "rejected"), ("icmpx type admin-prohibited", "unreachable")]
)
def test_a_router_that_rejects(world: World, answer: str, result: str) -> None:
    address = world.address()
    world.rule(world.hosts.router, "forward", f"ip daddr {address} {BARE_SYN} reject with {answer}")
    world.connect(address)
    record = told(world, world.router, address, "syn", "NETFILTER_DROP", FILTERED_AT)
    assert record.handshake.result == result
    assert cause(record) == ("firewall_rejected", "certain")


@pytest.mark.parametrize("verdict", ["drop", "reject with tcp reset", "reject with icmpx type admin-prohibited"])
def test_a_client_that_keeps_its_syn(world: World, verdict: str) -> None:
    address = world.address()
    world.rule(world.hosts.client, "output", f"ip daddr {address} {BARE_SYN} {verdict}")
    world.connect(address)
    record = told(world, world.client, address, "syn", "NETFILTER_DROP", FILTERED_AT)
    assert (record.interface, record.hook) == (None, "kernel")
    assert cause(record) in [("host_dropped", confidence) for confidence in KEPT_BACK]
    assert not [one for one in world.router.handshakes if one.server.ip == address]


def test_iptables(world: World) -> None:
    address = world.address()
    world.listen(address)
    box = world.hosts.first
    rule = ("INPUT", "-d", address, "-p", "tcp", "--syn", "-j", "DROP")
    box.run("iptables", "-w", "-A", *rule)
    world.opened.callback(box.run, "iptables", "-w", "-D", *rule)
    world.connect(address)
    record = told(world, world.server, address, "syn", "NETFILTER_DROP", FILTERED_AT, "nf_hook_slow", "ipt_do_table")
    assert cause(record) == ("host_dropped", "certain")


def test_netdev_ingress(world: World) -> None:
    address = world.address()
    world.listen(address)
    box = world.hosts.first
    chain = f"type filter hook ingress device {WIRE} priority 0; ip daddr {address} {BARE_SYN} drop;"
    box.run("nft", f"table netdev test {{ chain c {{ {chain} }}; }}")
    world.opened.callback(box.run, "nft", "delete", "table", "netdev", "test")
    world.connect(address)
    record = told(world, world.server, address, "syn", "NETFILTER_DROP", FILTERED_AT)
    assert cause(record) == ("host_dropped", "certain")


def test_an_answer_that_conntrack_does_not_know(world: World) -> None:
    address = world.address()
    world.listen(address)
    box = world.hosts.client
    box.run(
        "nft", f"table ip test {{ chain c {{ type filter hook output priority -300; ip daddr {address} notrack; }}; }}"
    )
    world.opened.callback(box.run, "nft", "delete", "table", "ip", "test")
    world.rule(box, "input", f"ip saddr {address} ct state invalid drop")
    world.connect(address, stay=True, syns=2)
    record = told(world, world.client, address, "synack", "NETFILTER_DROP", FILTERED_AT)
    assert cause(record) == ("host_dropped", "certain")


# --- routes ---


def test_a_router_that_does_not_forward(world: World) -> None:
    address = world.address()
    name = f"net.ipv4.conf.{TO_CLIENT}.forwarding"
    world.hosts.router.run("sysctl", "-qw", f"{name}=0")
    world.opened.callback(world.hosts.router.run, "sysctl", "-qw", f"{name}=1")
    world.connect(address)
    told(world, world.router, address, "syn", "IP_INADDRERRORS", "ip_error")


def test_a_router_without_a_route(world: World) -> None:
    address = "10.77.0.1"
    world.connect(address)
    told(world, world.router, address, "syn", "IP_INNOROUTES", "ip_error")


def test_a_ttl_that_ends(world: World) -> None:
    address = world.address()
    with world.hosts.client.inside():
        client = world.opened.enter_context(socket.socket())
    client.setsockopt(socket.IPPROTO_IP, IP_TTL, 1)
    client.setblocking(False)
    client.connect_ex((address, PORT))
    record = told(world, world.router, address, "syn", "IP_INHDR", "ip_forward")
    assert record.handshake.result == "unreachable"


# --- sockets ---


def test_a_filter_of_the_listener(world: World) -> None:
    address = world.address()
    attach(world.listen(address), DROP_ALL)
    world.connect(address)
    record = told(world, world.server, address, "syn", "SOCKET_FILTER", "tcp_v4_rcv", "sk_filter_trim_cap")
    assert cause(record) == ("host_dropped", "certain")


def test_a_listener_that_asks_for_near_clients(world: World) -> None:
    address = world.address()
    world.listen(address).setsockopt(socket.IPPROTO_IP, IP_MINTTL, 200)
    world.connect(address)
    if has_reason("TCP_MINTTL"):
        record = told(world, world.server, address, "syn", "TCP_MINTTL", "tcp_v4_rcv")
        assert cause(record) == ("host_dropped", "certain")
    else:
        record = told_nothing(world, world.seen(world.server, address), "tcp_v4_rcv")
        assert cause(record) == ("host_dropped", "possible")


@dataclass
class Raw:
    """A client made of raw segments, whose kernel does not know of it."""

    world: World
    sock: socket.socket
    address: str
    port: int

    def send(self, flags: Flag, seq: int = ISN + 1, ack: int = 0, stamps: tuple[int, int] | None = None) -> None:
        options = MSS_1460 if flags & Flag.SYN else b""
        if stamps is not None:
            options += b"\x01\x01\x08\x0a" + stamps[0].to_bytes(4, "big") + stamps[1].to_bytes(4, "big")
        segment = Segment(self.port, PORT, seq, ack, flags, options)
        self.sock.sendto(encode(segment, CLIENT[4], self.address), (self.address, 0))

    def answer(self) -> Segment:
        """The server's SYN-ACK."""
        while True:
            packet = self.sock.recv(1 << 16)
            if packet[12:16] == socket.inet_aton(self.address):
                found = decode(packet[(packet[0] & 15) * 4 :])
                if found.target_port == self.port and Flag.SYN in found.flags:
                    return found

    def stamp(self, answer: Segment) -> int:
        """TSval of an answer with timestamps."""
        at = answer.options.index(b"\x08\x0a")
        return int.from_bytes(answer.options[at + 2 : at + 6], "big")


def raw(world: World, address: str, port: int = 40000) -> Raw:
    with world.hosts.client.inside():
        sock = world.opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP))
    sock.settimeout(5)
    return Raw(world, sock, address, port)


def without_resets(world: World, address: str) -> None:
    world.rule(world.hosts.client, "output", f"ip daddr {address} tcp flags & rst == rst drop")


@pytest.mark.parametrize(("older", "echo", "reason"), [(100_000, 0, "TCP_RFC7323_PAWS"), (0, 5_000_000, TSECR)])
def test_an_ack_with_a_wrong_timestamp(world: World, older: int, echo: int, reason: str) -> None:
    address = world.address()
    world.listen(address)
    without_resets(world, address)
    client = raw(world, address)
    client.send(Flag.SYN, ISN, stamps=(STAMP, 0))
    answer = client.answer()
    ack, echoed = (answer.seq + 1) % (1 << 32), (client.stamp(answer) + echo) % (1 << 32)
    client.send(Flag.ACK, ack=ack, stamps=(STAMP + 10 - older, echoed))
    if reason == TSECR and not has_reason(TSECR):
        record = world.seen(world.server, address)
        assert (record.handshake.result, record.handshake.drop, *cause(record)) == ("established", None, None, None)
        return  # that kernel takes such an ACK
    client.answer()  # comes again
    client.send(Flag.ACK, ack=ack, stamps=(STAMP + 10 - older, echoed))
    if has_reason(TSECR):
        told(world, world.server, address, "ack", reason, "tcp_v4_rcv")
    else:  # and what the kernel names PAWS is not yet of ACKs that would make a connection
        told_nothing(world, world.seen(world.server, address), "tcp_v4_rcv")


def two_half_open(world: World, address: str) -> list[tuple[Raw, int]]:
    """Two clients whose SYNs were answered while there was room for one more connection; what each must ack."""
    listener = world.opened.enter_context(world.hosts.listen(world.hosts.first, address, PORT, queue=None, backlog=1))
    world.opened.enter_context(world.hosts.connect(listener))
    wait_for_queue(listener, 1)
    without_resets(world, address)
    found = []
    for port in (40000, 40001):
        client = raw(world, address, port)
        client.send(Flag.SYN, ISN)
        found.append((client, (client.answer().seq + 1) % (1 << 32)))
    return found


def of_port(world: World, address: str, port: int) -> Handshake:
    return world.server.wait_handshake(lambda one: one.server.ip == address and one.client.port == port)


def test_a_queue_that_is_full_when_the_ack_comes(world: World) -> None:
    address = world.address()
    for client, ack in two_half_open(world, address):
        client.send(Flag.ACK, ack=ack)
    record = of_port(world, address, 40001)
    if has_reason("TCP_LISTEN_OVERFLOW"):
        assert record.handshake.drop is not None
        assert (record.handshake.drop.reason, record.handshake.drop.at) == ("TCP_LISTEN_OVERFLOW", "tcp_v4_rcv")
    else:
        assert record.handshake.drop is None
    assert world.judge.knows(as_traced("TCP_LISTEN_OVERFLOW"), "tcp_v4_rcv")
    assert cause(record) == ("accept_queue_full", "certain")


def test_a_queue_that_is_full_for_a_cookie(world: World) -> None:
    address = world.address()
    world.opened.enter_context(world.hosts.sysctl(world.hosts.first, tcp_syncookies="2"))
    for client, ack in two_half_open(world, address):
        client.send(Flag.ACK, ack=ack)
    record = of_port(world, address, 40001)
    assert world.judge.knows("NO_SOCKET", "cookie_v4_check")
    assert cause(record) != ("no_listener", "certain")
    assert record.handshake.cause != "host_dropped"


def test_a_syn_for_a_connection_that_lives(world: World) -> None:
    address = world.address()
    listener = world.listen(address)
    client = world.opened.enter_context(world.hosts.connect(listener))
    child, _ = listener.accept()
    world.opened.callback(child.close)
    without_resets(world, address)
    other = raw(world, address, client.getsockname()[1])
    other.send(Flag.SYN, 77)
    record = world.server.wait_handshake(lambda one: one.server.ip == address and one.syn.seq == 77)
    assert world.judge.knows("TCP_INVALID_SYN")
    assert record.handshake.cause != "host_dropped"


# --- connections that work ---


def works(world: World, address: str, count: int) -> list[Handshake]:
    """The records of so many connections, at each place: none has a drop or a cause of a failure."""

    def of(run: Run) -> list[Handshake]:
        return [one for one in run.handshakes if one.server.ip == address]

    wait_until(lambda: all(len({one.id for one in of(run)}) >= count for run in world.places), "all records")
    found = [one for run in world.places for one in of(run)]
    assert {one.handshake.drop for one in found} == {None}
    assert not {one.handshake.cause for one in found} & {"host_dropped", "firewall_rejected", "no_listener"}
    return found


def test_an_answer_that_comes_again(world: World) -> None:
    """The client frees the repeated SYN-ACK as TCP_INVALID_SYN, acks it, and all goes on."""
    address = world.address()
    listener = world.listen(address)
    first = "limit rate 1/hour burst 1 packets"
    world.rule(world.hosts.router, "forward", f"ip daddr {address} {BARE_ACK} {first} drop")
    client = world.hosts.connect(listener)
    child, _ = listener.accept()  # after the second SYN-ACK
    with client, child:
        client.sendall(b"question")
        assert child.recv(8) == b"question"
        child.sendall(b"answer")
        assert client.recv(6) == b"answer"
    works(world, address, 1)
    assert world.judge.knows("TCP_INVALID_SYN")


def test_a_local_synproxy(world: World) -> None:
    address = world.address()
    listener = world.listen(address)
    world.opened.enter_context(syn_proxy(world.hosts.first, f"ip daddr {address} tcp dport {PORT}", "input"))
    for _ in range(5):
        world.hosts.exchange_plainly(listener)
    for record in works(world, address, 5):
        assert record.handshake.result == "established"
        assert record.handshake.cause is None


def test_a_thousand_ordinary_ones_beside_a_drop(world: World) -> None:
    address, dropped = world.address(), world.address()
    listener = world.listen(address)
    world.listen(dropped)
    world.rule(world.hosts.first, "input", f"ip daddr {dropped} {BARE_SYN} drop")
    world.rule(world.hosts.first, "output", f"ip saddr {dropped} {SYN_ACK} drop")
    for number in range(1000):
        world.hosts.exchange_plainly(listener)
        if not number % 250:
            world.connect(dropped)
    records = works(world, address, 1000)
    assert {one.handshake.cause for one in records} == {None}
    assert cause(world.seen(world.server, dropped)) == ("host_dropped", "certain")
