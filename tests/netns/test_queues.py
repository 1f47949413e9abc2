"""Full queues of listeners and deferred ones, between real kernels, traced at the client, the router and the server.

ss(8) and the kernel's counters are the judges.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import wraps
from itertools import count
from typing import ParamSpec

import pytest

from tests.support.hosts import ANSWER, REQUEST, tcp_counters
from tests.support.kernel_reasons import has_reason
from tests.support.netbox import wait_until
from tests.support.patience import PATIENCE_S
from tests.support.routed import TO_CLIENT, TO_FIRST, WIRE, Routed, routed, service_address, source_address
from tests.support.stage import wait_for_queue
from tests.support.tracing import INFERRING, Run, tracing
from tracer.lab import sockets
from tracer.lab.packet import MSS_1460, Flag
from tracer.lab.stage import RawEnd, isn
from tracer.records.drop import Drop
from tracer.records.fate import listener_words
from tracer.records.life import causes
from tracer.records.record import Handshake

pytestmark = [pytest.mark.root, pytest.mark.slow]

CLIENT = {4: "10.98.0.2", 6: "fd00:98:0::2"}
PORT = 8443
TCP_SYNCNT, TCP_DEFER_ACCEPT = 7, 9
NOTHING = (None, None, None)
P = ParamSpec("P")
_numbers = count(1)
_LISTENER = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
listener = socket.socket(family)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((sys.argv[1], int(sys.argv[2])))
listener.listen(int(sys.argv[3]))
print("listening", flush=True)
sys.stdin.read()
"""


@dataclass
class World:
    """The hosts, and a run of tfotrace at each place; at the server a second one hears the kernel's reasons."""

    hosts: Routed
    client: Run
    router: Run
    server: Run
    hearing: Run
    opened: ExitStack = field(default_factory=ExitStack)

    def address(self, version: int = 4) -> str:
        return service_address(next(_numbers), version)

    def listen(self, address: str, backlog: int = 1, *, port: int = PORT, group: bool = False) -> socket.socket:
        with self.hosts.first.inside():
            made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.opened.callback(made.close)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT if group else socket.SO_REUSEADDR, 1)
        made.settimeout(10)
        made.bind((address, port))
        made.listen(backlog)
        return made

    def begin(self, address: str, data: bytes = b"", port: int = PORT, source: str = "") -> socket.socket:
        """A client that begins to connect, and sends data as soon as it has."""
        with self.hosts.client.inside():
            client = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.opened.callback(client.close)
        client.bind((source or CLIENT[6 if ":" in address else 4], 0))
        client.setsockopt(socket.IPPROTO_TCP, TCP_SYNCNT, 1)
        client.setblocking(False)
        with suppress(BlockingIOError):
            client.connect((address, port))
        if data:

            def sent() -> bool:
                with suppress(BlockingIOError, OSError):
                    return client.send(data) > 0
                return False

            wait_until(sent, "the client has sent its data")
        return client

    def fill(self, listener: socket.socket, backlog: int = 1) -> None:
        """Fill a listener's accept queue by connections that nobody accepts."""
        address, port = listener.getsockname()[:2]
        for waiting in range(backlog + 1):
            self.begin(address, port=port)
            wait_for_queue(listener, waiting + 1)

    def by_hand(self, address: str) -> RawEnd:
        """A client whose segments the test makes; its kernel answers nothing."""
        version = 6 if ":" in address else 4
        with self.hosts.client.inside():
            holder = sockets.listener(version, CLIENT[version], 0, queue=None, drop=sockets.DROP_ALL)
            family = socket.AF_INET6 if version == 6 else socket.AF_INET
            raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP)
        self.opened.callback(holder.close)
        self.opened.callback(raw.close)
        raw.bind((CLIENT[version], 0))
        raw.connect((address, 0))
        return RawEnd(raw, (CLIENT[version], holder.getsockname()[1]), address)

    def seen(self, run: Run, client: socket.socket | RawEnd) -> Handshake:
        port = client.port if isinstance(client, RawEnd) else client.getsockname()[1]
        place = TO_CLIENT if run is self.router else WIRE
        return run.wait_handshake(lambda one: one.client.port == port and one.interface == place)

    def ss(self, address: str, port: int = PORT) -> tuple[int, int]:
        """Recv-Q and Send-Q of a listener."""
        with self.hosts.first.inside():
            said = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, check=True).stdout
        where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        (line,) = (words for words in map(str.split, said.splitlines()) if words[3] == where)
        return int(line[1]), int(line[2])

    @contextmanager
    def moving(self, *names: str) -> Iterator[None]:
        """Exactly these counters of the server move meanwhile."""
        watched = ("ListenOverflows", "ListenDrops", "TCPReqQFullDrop", "TCPDeferAcceptDrop", "SyncookiesSent")
        before = tcp_counters(self.hosts.first)
        yield
        after = tcp_counters(self.hosts.first)
        assert {name for name in watched if after[name] != before[name]} == set(names)


@pytest.fixture(scope="module")
def _world() -> Iterator[World]:
    with ExitStack() as stack:
        hosts = stack.enter_context(routed())

        def run(box: str, *words: str) -> Run:
            return stack.enter_context(tracing(*words, "--json", "--netns", box))

        yield World(
            hosts, run(hosts.client.name, WIRE, INFERRING), run(hosts.router.name, TO_CLIENT, TO_FIRST, INFERRING),
            run(hosts.first.name, WIRE, INFERRING), run(hosts.first.name, WIRE),
        )  # fmt: skip


@pytest.fixture
def world(_world: World) -> World:
    return _world


def fate(record: Handshake) -> tuple[str | None, str | None, str | None]:
    told = record.handshake
    return told.cause, told.cause_confidence, told.cause_at


class TooLateError(Exception):
    """The root part did not answer in time: on a busy machine nothing is said then, or only what is possible."""


def fate_here(record: Handshake) -> tuple[str | None, str | None, str | None]:
    """Of a handshake that the server's own run can explain."""
    if record.handshake.cause_confidence in (None, "possible"):
        raise TooLateError
    return fate(record)


def patient(test: Callable[P, None]) -> Callable[P, None]:
    """Play it again where the machine was too busy."""

    @wraps(test)
    def repeated(*args: P.args, **kwargs: P.kwargs) -> None:
        world = kwargs["world"]
        assert isinstance(world, World)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with suppress(TooLateError), ExitStack() as world.opened:
                return test(*args, **kwargs)
        with ExitStack() as world.opened:
            return test(*args, **kwargs)

    return repeated


def named(record: Handshake) -> tuple[str, int, int, int]:
    listener = record.handshake.listener
    assert listener is not None
    if listener.process is None:
        raise TooLateError
    return listener.ip, listener.port, listener.queued, listener.backlog


def listening(world: World, address: str, backlog: int) -> int:
    """A process of its own that listens and accepts nothing; its pid."""
    with world.hosts.first.inside():
        made = subprocess.Popen(
            [sys.executable, "-c", _LISTENER, address, str(PORT), str(backlog)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
    world.opened.callback(made.wait)
    world.opened.callback(made.kill)
    assert made.stdout is not None
    assert made.stdout.readline() == b"listening\n"
    return made.pid


CERTAIN = ("accept_queue_full", "certain", "this_host")


@pytest.mark.parametrize("version", [4, 6])
@patient
def test_full_at_the_syn(world: World, version: int) -> None:
    address = world.address(version)
    listener = world.listen(address)
    world.fill(listener)
    with world.moving("ListenOverflows", "ListenDrops"):
        client = world.begin(address)
        records = [world.seen(run, client) for run in (world.server, world.hearing)]
    for record in records:
        assert record.handshake.result == "no_reply"
        assert fate_here(record) == CERTAIN
        assert named(record) == (address, PORT, *world.ss(address)) == (address, PORT, 2, 1)
        assert record.handshake.listener is not None
        assert record.handshake.listener.process is not None
        assert record.handshake.listener.process.pid == os.getpid()
    for run in (world.client, world.router):
        assert world.seen(run, client).handshake.cause in ("filtered_or_down", "packet_loss", "no_answer_beyond")
        assert world.seen(run, client).handshake.listener is None


@patient
def test_the_process_is_named(world: World) -> None:
    address = world.address()
    pid = listening(world, address, 1)
    for waiting in (1, 2):
        world.begin(address)
        wait_until(lambda waiting=waiting: world.ss(address)[0] == waiting, "the accept queue")  # type: ignore[misc]
    client = world.begin(address)
    record = world.seen(world.server, client)
    assert fate_here(record) == CERTAIN
    listener = record.handshake.listener
    assert listener is not None
    if listener.process is None:
        raise TooLateError
    name = listener.process.name
    assert listener_words(record.handshake, listener) == f"accept queue of {name}[{pid}] at {address}:{PORT}: 2 of 1"
    ((sentence, confidence),) = causes(record)
    assert confidence == "certain"
    assert sentence.startswith(f"The accept queue of {name}[{pid}] at {address}:{PORT} was full, 2 of 1: ")


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("asks", [True, False])
@patient
def test_full_at_the_ack(world: World, version: int, asks: bool) -> None:
    address = world.address(version)
    listener = world.listen(address)
    client = world.by_hand(address)
    syn = client.send(PORT, Flag.SYN, isn(), options=MSS_1460)
    synack = client.receive(Flag.SYN | Flag.ACK)
    world.fill(listener)
    with world.moving("ListenOverflows", "ListenDrops"):
        for _ in range(2):  # the ACK, and the request, again and again
            client.send(PORT, Flag.ACK, syn.next_seq, synack.next_seq)
            if asks:
                client.send(PORT, Flag.PSH | Flag.ACK, syn.next_seq, synack.next_seq, payload=REQUEST)
            time.sleep(0.05)  # else they are copies of one
        assert client.receive(Flag.SYN | Flag.ACK).seq == synack.seq
        server, hearing = (world.seen(run, client) for run in (world.server, world.hearing))
    for record in (server, hearing):
        assert record.handshake.after == "synack_again"
        assert fate_here(record) == CERTAIN
        assert named(record) == (address, PORT, *world.ss(address)) == (address, PORT, 2, 1)
    overflow = Drop("ack", "TCP_LISTEN_OVERFLOW", f"tcp_v{version}_rcv", None)
    assert hearing.handshake.drop == (overflow if has_reason("TCP_LISTEN_OVERFLOW") else None)
    expected = "accept_queue_full" if asks else "accept_deferred"
    for run in (world.client, world.router):
        assert fate(world.seen(run, client)) == (expected, "possible", "server")
        assert world.seen(run, client).handshake.listener is None


@patient
def test_a_queue_that_was_full_for_the_first_syn_only(world: World) -> None:
    address = world.address()
    listener = world.listen(address)
    world.fill(listener)
    client = world.begin(address)
    overflowed = tcp_counters(world.hosts.first)["ListenOverflows"]
    wait_until(lambda: tcp_counters(world.hosts.first)["ListenOverflows"] >= overflowed, "the SYN is dropped")
    children = [world.opened.enter_context(listener.accept()[0]) for _ in range(2)]
    child = world.opened.enter_context(listener.accept()[0])  # the SYN comes again after a second
    child.sendall(ANSWER)
    assert len(children) == 2
    record = world.seen(world.server, client)
    assert (record.handshake.result, record.handshake.syn_count) == ("established", 2)
    assert fate_here(record) in (CERTAIN, ("accept_queue_full", "likely", "this_host"))


def half_open(world: World, address: str, number: int) -> None:
    """So many handshakes that nobody goes on with."""
    no_reset = f"ip daddr {address} tcp flags & rst == rst drop"
    world.opened.enter_context(world.hosts.rule(world.hosts.client, "output", no_reset))
    with world.hosts.client.inside():
        raw = world.opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP))
    raw.connect((address, 0))
    for port in range(number):
        RawEnd(raw, (CLIENT[4], 20000 + port), address).send(PORT, Flag.SYN, isn(), options=MSS_1460)


@pytest.mark.parametrize("by_sysctl", [False, True])
@patient
def test_a_full_syn_queue(world: World, by_sysctl: bool) -> None:
    address = world.address()
    world.listen(address, backlog=64 if by_sysctl else 4)
    settings = {"tcp_syncookies": "0", "tcp_max_syn_backlog": "8" if by_sysctl else "256"}
    counters = ["ListenDrops"] if by_sysctl else ["ListenDrops", "TCPReqQFullDrop"]
    with world.hosts.sysctl(world.hosts.first, **settings):
        time.sleep(1.2)  # the run has read the sysctl
        half_open(world, address, 7 if by_sysctl else 6)
        with world.moving(*counters):
            client = world.begin(address, source=source_address(40))
            time.sleep(1.5)
        record = world.seen(world.server, client)
    assert fate_here(record) == ("syn_queue_full", "likely", "this_host")
    assert named(record) == (address, PORT, 0, 64 if by_sysctl else 4)


@patient
def test_deferred(world: World) -> None:
    """A client that is silent; one that sends at once has no cause."""
    address = world.address()
    listener = world.listen(address, 8)
    listener.setsockopt(socket.IPPROTO_TCP, TCP_DEFER_ACCEPT, 1)
    with world.moving("TCPDeferAcceptDrop"):
        silent = world.begin(address)
        asking = world.begin(address, REQUEST)
        child = world.opened.enter_context(listener.accept()[0])
        child.sendall(ANSWER)
        records = [world.seen(run, silent) for run in (world.server, world.hearing)]
    for record in records:
        assert record.handshake.after == "synack_again"
        assert fate_here(record) == ("accept_deferred", "likely", "this_host")
        assert named(record)[:2] == (address, PORT)
    for run in (world.client, world.router):
        assert fate(world.seen(run, silent)) == ("accept_deferred", "possible", "server")
    for run in (world.client, world.router, world.server, world.hearing):
        assert fate(world.seen(run, asking)) == NOTHING


@patient
def test_cookies(world: World) -> None:
    address = world.address()
    listener = world.listen(address, 8)
    with world.hosts.sysctl(world.hosts.first, tcp_syncookies="2"):
        time.sleep(1.2)
        with world.moving("SyncookiesSent"):
            half_open(world, address, 1)
            client = world.begin(address, REQUEST)
            world.opened.enter_context(listener.accept()[0]).sendall(ANSWER)
            left = world.server.wait_handshake(
                lambda one: one.server.ip == address and one.handshake.result == "half_open"
            )
    assert fate_here(left) == ("syn_cookies", "likely", "this_host")
    assert left.handshake.listener is None
    assert fate(world.seen(world.server, client)) == NOTHING


@patient
def test_a_neighbours_queue(world: World) -> None:
    """A listener with room, whose SYNs a rule drops, beside one that overflows."""
    address, neighbour = world.address(), world.address()
    world.listen(address, 8)
    full = world.listen(neighbour)
    world.fill(full)
    rule = f"ip daddr {address} tcp flags & (syn|ack) == syn drop"
    world.opened.enter_context(world.hosts.rule(world.hosts.first, "input", rule))
    with world.moving("ListenOverflows", "ListenDrops"):
        client, other = world.begin(address), world.begin(neighbour)
        record, overflowed = world.seen(world.server, client), world.seen(world.server, other)
    assert fate_here(overflowed) == CERTAIN
    assert fate(record) == NOTHING
    # once the kernel's places have their names
    assert fate(world.seen(world.hearing, client)) in (NOTHING, ("host_dropped", "certain", "this_host"))
    assert record.handshake.listener is None


@patient
def test_several_sockets_at_one_port(world: World) -> None:
    address = world.address()
    full, free = (world.listen(address, backlog, group=True) for backlog in (1, 64))
    before = tcp_counters(world.hosts.first)["ListenOverflows"]
    clients = []
    while tcp_counters(world.hosts.first)["ListenOverflows"] == before:
        clients.append(world.begin(address))
        assert len(clients) < 60
        time.sleep(0.02)
    record = world.seen(world.server, clients[-1])
    assert record.handshake.result == "no_reply"
    assert fate_here(record) == ("accept_queue_full", "likely", "this_host")
    assert named(record) == (address, PORT, 2, 1)
    assert full.fileno() != free.fileno()
