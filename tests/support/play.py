"""Situations between the watched hosts (world.py) that resemble a cause, and what the places say of them.

Some are made by hand, at a raw socket beside a port whose kernel says nothing: no Linux kernel sends such segments.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import pytest

from tests.support.hosts import ANSWER, REQUEST, tcp_counters
from tests.support.netbox import NetBox
from tests.support.patience import PATIENCE_S, SHORT_S
from tests.support.routed import TO_CLIENT, TO_FIRST
from tests.support.stage import PORT, Forger, Stage
from tests.support.tracing import Run
from tests.support.world import NONE, Cause, World, cause_of, watched
from tracer.lab.packet import MSS_1460, Flag, Segment
from tracer.lab.sockets import reset
from tracer.lab.stage import RawEnd, answer_syn, cookie_key, finish_by_hand, isn
from tracer.records.record import Handshake

by_both_versions = pytest.mark.parametrize("play", [4, 6], indirect=True, ids=["IPv4", "IPv6"])


class Seen(NamedTuple):
    """The records of a handshake."""

    client: Handshake
    router: Handshake  # at its interface to the client
    server: Handshake


# What a server's host may say as long as it has not looked at its listener.
LESS: frozenset[Cause] = frozenset((NONE, ("listener_disabled", "possible")))
OVERFLOW: tuple[Cause, Cause] = ("queue_overflow", "likely"), ("queue_overflow", "possible")  # at last, and before


def come_to(step: Callable[[], Seen], wanted: Cause, *before: Cause) -> Seen:
    """Repeat a situation until the server's host has seen enough to say this; until then it says less, or `before`."""
    deadline = time.monotonic() + PATIENCE_S
    while cause_of((seen := step()).server) != wanted:
        said = cause_of(seen.server)
        assert said in (*LESS, *before)
        assert time.monotonic() < deadline, f"{said} instead of {wanted}"
    return seen


class Play(Stage):
    """A situation at a service address of its own."""

    def __init__(self, world: World, forger: Forger, version: int = 4) -> None:
        super().__init__(world.hosts, forger, world.number(), version, lambda: 0)
        self.world = world

    # --- connections ---

    def exchange(self, listener: socket.socket, no_cookie: bool = False) -> int:
        """A whole connection with Fast Open; returns the client's port."""
        return self.hosts.exchange(listener, no_cookie=no_cookie)

    def exchange_with_proxy(self, listener: socket.socket) -> int:
        """Likewise where a SYN proxy answers, which takes the ACK alone."""
        return self.hosts.serve(listener, send_after_ack(self.begin_fast_open()))

    def listen_at(self, port: int, queue: int | None = 64, box: NetBox | None = None) -> socket.socket:
        """A listener at another port of this address."""
        return self.enter_context(self.hosts.listen(box or self.hosts.first, self.server_ip, port, queue))

    def begin_fast_open(self) -> socket.socket:
        """A client that has sent its SYN, with the request if it has a cookie; else it forgets the request."""
        client = self.client_socket()
        client.setblocking(False)
        with suppress(BlockingIOError):
            self.fast_open(client, wait=False)
        client.setblocking(True)
        return client

    def by_hand(self, server: RawEnd, options: bytes = b"", acked: int = 0, client: socket.socket | None = None) -> int:
        """A connection with a server by hand, whose SYN-ACK acks some of the data and has these options.

        The client opens with the cookie that it has, or asks for one, unless it has begun already.
        """
        if client is None:
            client = self.begin_fast_open()
        syn = server.receive(Flag.SYN)
        self.answer_by_hand(server, answer_syn(server, syn, acked, options))
        assert client.recv(len(ANSWER), socket.MSG_WAITALL) == ANSWER
        port: int = client.getsockname()[1]
        reset(client)
        server.receive(Flag.RST)
        return port

    def answer_by_hand(self, server: RawEnd, synack: Segment) -> None:
        """Wait for the ACK of this SYN-ACK, and answer."""
        while (ack := server.receive(Flag.ACK)).ack != synack.next_seq:
            pass
        server.send(ack.source_port, Flag.PSH | Flag.ACK, synack.next_seq, ack.next_seq, payload=ANSWER)

    def send_by_hand(self, listener: socket.socket, options: bytes, data: bytes = REQUEST) -> tuple[int, Segment]:
        """A connection of a client by hand; its SYN has these options. Returns its port and the SYN-ACK."""
        client = self.raw_client()
        client.send(PORT, Flag.SYN, isn(), options=MSS_1460 + options, payload=data)
        synack = client.receive(Flag.SYN | Flag.ACK)
        finish_by_hand(client, synack, listener)
        return client.port, synack

    # --- what is told ---

    def seen(self, port: int) -> Seen:
        """What the places say of the handshake of a client's port."""

        def fits(one: Handshake) -> bool:
            return one.client.port == port and one.server.ip == self.server_ip

        world = self.world
        return Seen(
            world.client.wait_handshake(fits),
            world.router.wait_handshake(lambda one: fits(one) and one.interface == TO_CLIENT),
            world.server.wait_handshake(fits),
        )

    def behind_the_router(self, port: int) -> Handshake:
        """What the router's interface to the first server says of it."""
        return self.world.router.wait_handshake(
            lambda one: one.client.port == port and one.server.ip == self.server_ip and one.interface == TO_FIRST
        )


def of_client(run: Run, ip: str, port: int) -> Handshake:
    """What a run says of the handshake of a client's address and port."""
    return run.wait_handshake(lambda one: (one.client.ip, one.client.port) == (ip, port))


def of_syn(run: Run, number: int) -> Handshake:
    """What it says of the handshake whose SYN has this sequence number."""
    return run.wait_handshake(lambda one: one.syn.seq == number)


def after(run: Run, before: Handshake) -> Handshake:
    """What it says, at the same interface, of the next handshake of the same addresses and ports."""
    ends = [(one.client.ip, one.client.port, one.server.ip, one.interface) for one in (before,)]
    return run.wait_handshake(
        lambda one: one.id != before.id and (one.client.ip, one.client.port, one.server.ip, one.interface) in ends
    )


def new_key() -> str:
    """A Fast Open key as the sysctl has it."""
    key = cookie_key().hex()
    return "-".join(key[at : at + 8] for at in range(0, len(key), 8))


def set_keys(box: NetBox, *keys: str) -> None:
    """A host's key, and its backup."""
    box.run("sysctl", "-qw", f"net.ipv4.tcp_fastopen_key={','.join(keys)}")


def send_after_ack(client: socket.socket) -> socket.socket:
    """Send the request of a client that has sent its SYN once it is connected.

    A SYN proxy grants no window. Who has something to send before that sends its ACK after 200 ms or, should the timer
    for this run out first, a window probe in its place, which the proxy does not take.
    """
    assert select.select([], [client], [], SHORT_S)[1], "not connected"
    client.sendall(REQUEST)
    return client


@contextmanager
def syn_proxy(box: NetBox, hook: str, server_ip: str) -> Iterator[None]:
    """A host answers SYNs itself, before its own listener (input) or in the way (forward).

    Once a client has acknowledged that, it goes on with a SYN of its own, which has the client's number.
    """
    ours, table = f"ip daddr {server_ip} tcp dport {PORT}", "syn-proxy"
    first = f"chain r {{ type filter hook prerouting priority -300; {ours} tcp flags syn notrack; }}"
    answer = f"{ours} ct state invalid,untracked synproxy mss 1460 wscale 7 timestamp sack-perm"
    then = f"chain c {{ type filter hook {hook} priority 0; {answer}; {ours} ct state invalid drop; }}"
    box.run("nft", f"table ip {table} {{ {first}; {then}; }}")
    box.run("sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_loose=0")
    try:
        yield
    finally:
        box.run("nft", "delete", "table", "ip", table)
        box.run("sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_loose=1")


@contextmanager
def moving(box: NetBox, **counters: int) -> Iterator[None]:
    """Between its start and its end these TcpExt counters of a host move by so much."""
    before = tcp_counters(box)
    yield
    after = tcp_counters(box)
    moved = {name: after[name] - before.get(name, 0) for name in counters}
    assert moved == counters


class Theatre:
    """The watched hosts and a forger, for the plays of a file."""

    def __init__(self, world: World, forger: Forger) -> None:
        self.world = world
        self._forger = forger

    def play(self, version: int = 4) -> Play:
        return Play(self.world, self._forger, version)


@contextmanager
def theatre() -> Iterator[Theatre]:
    with watched() as world:
        forger = Forger(world.hosts)
        try:
            yield Theatre(world, forger)
        finally:
            forger.close()
