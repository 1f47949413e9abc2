"""A middlebox that lets a SYN with data and its SYN-ACK pass and drops what follows, between real kernels.

The client's own kernel judges too: with tcp_fastopen_blackhole_timeout_sec above 0 it counts the blackhole.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count

import pytest

from tests.support.hosts import ANSWER, REQUEST
from tests.support.routed import TO_CLIENT, WIRE, Routed, routed, service_address
from tests.support.tracing import Run, tracing
from tracer.records.record import Handshake

pytestmark = [pytest.mark.root, pytest.mark.slow]

CAUSE = "path_breaks_after_accept"
RESPONSE_TIMEOUT_S = 3  # the client's third timeout comes after 1.4 s
MORE = b"and more"
SO_LINGER_RESET = struct.pack("ii", 1, 0)
_numbers = count(1)


@dataclass
class World:
    """The hosts, and a run of tfotrace at each place."""

    hosts: Routed
    client: Run
    router: Run
    server: Run

    def blackholes(self) -> int:
        """What the client's kernel has counted so far, by nstat."""
        told = self.hosts.client.run("nstat", "-asz", "TcpExtTCPFastOpenBlackhole")
        return int(told.split("TcpExtTCPFastOpenBlackhole")[1].split()[0])

    @contextmanager
    def listener(self) -> Iterator[socket.socket]:
        """A listener at an address not used before, whose cookie the client has."""
        with self.hosts.listen(self.hosts.first, service_address(next(_numbers))) as listener:
            self.hosts.exchange(listener)
            yield listener

    @contextmanager
    def middlebox(self, listener: socket.socket, verdict: str = "drop") -> Iterator[None]:
        """Of clients whose SYN to this listener had data the router lets SYN and SYN-ACK pass, and nothing else."""
        address = listener.getsockname()[0]
        table, syn = f"breaks-{address.replace('.', '-')}", "tcp flags & syn == syn"
        rules = (
            f"ip daddr {address} {syn} meta length > 80 add @broken {{ tcp sport }}",
            f"{syn} accept",
            f"ip daddr {address} tcp sport @broken {verdict}",
            f"ip saddr {address} tcp dport @broken drop",
        )
        ports = "set broken { type inet_service; flags dynamic; size 1024; }"
        chain = f"chain c {{ type filter hook forward priority 0; {'; '.join(rules)}; }}"
        self.hosts.router.run("nft", f"table inet {table} {{ {ports}; {chain}; }}")
        try:
            yield
        finally:
            self.hosts.router.run("nft", "delete", "table", "inet", table)

    def broken(self, listener: socket.socket) -> Handshake:
        """The client's record of a connection that sends more data after its SYN's and waits in vain."""
        with self.hosts.open(listener) as client:
            client.send(MORE)
            port = client.getsockname()[1]
            record = self.client.wait_port(port)
            child, _ = listener.accept()
            child.close()
        return record


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with routed() as hosts:
        words = ("--json", "--response-timeout", str(RESPONSE_TIMEOUT_S), "--netns")
        with tracing(WIRE, *words, hosts.client.name) as client, tracing(WIRE, *words, hosts.first.name) as server, \
                tracing(TO_CLIENT, *words, hosts.router.name) as router:  # fmt: skip
            yield World(hosts, client, router, server)


def cause_of(record: Handshake) -> tuple[str | None, str | None]:
    return record.tfo.cause, record.tfo.cause_confidence


def assert_broken(record: Handshake) -> None:
    assert (record.tfo.outcome, record.tfo.group, record.tfo.rtt_saved_us) == ("data_acked", "failed", 0)
    assert record.handshake.after in ("silence", "synack_again")
    assert record.handshake.request_acked is False
    assert (record.handshake.request_repeats or 0) >= 2


def test_a_blackhole_that_the_clients_kernel_counts_is_certain(world: World) -> None:
    with world.hosts.sysctl(world.hosts.client, tcp_fastopen_blackhole_timeout_sec="3600"):
        with world.listener() as listener, world.middlebox(listener):
            before = world.blackholes()
            record = world.broken(listener)
            assert world.blackholes() == before + 1
            assert_broken(record)
            assert cause_of(record) == (CAUSE, "certain")
            # whoever cannot read the client's counters has seen one such death only
            at_router = world.router.wait_port(record.client.port)
            assert_broken(at_router)
            assert cause_of(at_router) == (CAUSE, "possible")
            assert cause_of(world.server.wait_port(record.client.port)) == (None, None)
        # the kernel uses no Fast Open now: what it then does is no attempt that could fail
        with world.listener() as other:
            assert world.client.wait_port(world.hosts.exchange(other)).tfo.outcome == "not_attempted"


def test_without_the_counter_it_takes_a_second_time_and_a_plain_connection(world: World) -> None:
    with world.listener() as listener:
        with world.middlebox(listener):
            before = world.blackholes()
            first = world.broken(listener)
            assert_broken(first)
            plain = world.client.wait_port(world.hosts.exchange_plainly(listener))
            assert (plain.handshake.after, plain.tfo.cause) == ("response", None)
            second = world.broken(listener)
            assert_broken(second)
            assert [cause_of(one) for one in (first, second)] == [(CAUSE, "possible"), (CAUSE, "likely")]
            assert world.blackholes() == before
            at_router = [world.router.wait_port(one.client.port) for one in (first, second)]
            assert [cause_of(one) for one in at_router] == [(CAUSE, "possible"), (CAUSE, "likely")]
        # without the middlebox one lives, and the next death is one alone again
        lived = world.client.wait_port(world.hosts.exchange(listener))
        assert (lived.tfo.outcome, lived.tfo.group, lived.tfo.cause) == ("data_acked", "ok", None)
        assert lived.tfo.rtt_saved_us
        with world.middlebox(listener):
            assert cause_of(world.broken(listener)) == (CAUSE, "possible")


def test_a_server_that_resets_before_it_answers(world: World) -> None:
    with world.listener() as listener:
        for _ in range(2):
            with world.hosts.open(listener) as client:
                port = client.getsockname()[1]
                child, _ = listener.accept()
                child.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, SO_LINGER_RESET)
                child.close()
                with suppress(ConnectionError):
                    client.recv(1)
            record = world.client.wait_port(port)
            assert (record.tfo.outcome, record.tfo.group) == ("data_acked", "failed")
            assert (record.handshake.after, record.tfo.rtt_saved_us) == ("reset_by_server", 0)
            assert cause_of(record) == (CAUSE, "possible")
            assert (record.handshake.cause, record.handshake.cause_at) == ("reset_after_established", "server")
            # it was the host's own reset
            assert cause_of(world.server.wait_port(port)) == (None, None)


def test_a_server_that_ends_with_connections_in_its_queue(world: World) -> None:
    """As at a restart; a plain connection was served before."""
    with world.listener() as listener:
        world.hosts.exchange_plainly(listener)
        clients = [world.hosts.open(listener) for _ in range(3)]
        ports = [client.getsockname()[1] for client in clients]
    for client, port in zip(clients, ports, strict=True):
        record = world.client.wait_port(port)
        assert (record.tfo.outcome, record.handshake.after) == ("data_acked", "reset_by_server")
        assert cause_of(record) == (CAUSE, "possible")
        assert (record.handshake.cause, record.handshake.cause_at) == ("reset_after_established", "server")
        client.close()


def test_a_middlebox_that_resets_what_follows(world: World) -> None:
    """Its resets come from nearer than the server."""
    with world.listener() as listener, world.middlebox(listener, "reject with tcp reset"):
        for sure in ("possible", "likely"):
            with world.hosts.open(listener, wait=False) as client:
                record = world.client.wait_port(client.getsockname()[1])
                assert (record.tfo.outcome, record.handshake.after) == ("data_acked", "reset_by_server")
                assert cause_of(record) == (CAUSE, sure)
                assert (record.handshake.cause, record.handshake.cause_at) == ("answered_on_path", "path")
                listener.accept()[0].close()


def test_false_friends(world: World) -> None:
    with world.listener() as listener:

        def slow(client: socket.socket) -> None:
            child, _ = listener.accept()
            with child:
                assert child.recv(len(REQUEST), socket.MSG_WAITALL) == REQUEST
                time.sleep(RESPONSE_TIMEOUT_S + 1)
                child.sendall(ANSWER)
            assert client.recv(len(ANSWER), socket.MSG_WAITALL) == ANSWER

        def resets_after_answering(client: socket.socket) -> None:
            child, _ = listener.accept()
            child.recv(len(REQUEST), socket.MSG_WAITALL)
            child.sendall(ANSWER)
            assert client.recv(len(ANSWER), socket.MSG_WAITALL) == ANSWER
            child.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, SO_LINGER_RESET)
            child.close()

        def client_resets(client: socket.socket) -> None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, SO_LINGER_RESET)
            client.close()
            listener.accept()[0].close()

        told = {}
        for play in (slow, resets_after_answering, client_resets):
            with world.hosts.open(listener) as client:
                port = client.getsockname()[1]
                play(client)
            for run in (world.client, world.router, world.server):
                record = run.wait_port(port)
                assert cause_of(record) == (None, None), play.__name__
                assert (record.tfo.outcome, record.tfo.group) == ("data_acked", "ok")
                told[play.__name__] = record.handshake.after
        assert told == {"slow": "silence", "resets_after_answering": "response", "client_resets": "reset_by_client"}

        unused = world.hosts.connect(listener)
        port = unused.getsockname()[1]
        unused.close()
        listener.accept()[0].close()
        record = world.client.wait_port(port)
        assert (record.handshake.after, record.tfo.cause) == ("closed_unused", None)


def test_the_summary_of_such_a_run_is_no_success(world: World) -> None:
    with tracing(WIRE, "--json", "--response-timeout", "3", "--netns", world.hosts.client.name) as run:
        with world.listener() as listener, world.middlebox(listener):
            record = world.broken(listener)
            run.wait_port(record.client.port)
        assert run.stop() == 0
        totals = run.end.totals
        assert (totals.tfo_with_data, totals.tfo_accepted, totals.tfo_lived) == (1, 1, 0)
        assert totals.died == {"data_acked": 1}
        assert totals.net_saved_us == 0
        first = next(line for line in run.said if "Fast Open: " in line)
        assert "of 1 SYN with data none worked, 1 was accepted and then dead or silent" in first
