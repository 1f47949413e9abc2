"""A client, a router and a server, a run of tfotrace at each, and the kernel's own trace as the judge of its words."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count

from tests.support.heard import NEAR_S, Judge, judge
from tests.support.netbox import NetBox, wait_until
from tests.support.patience import FACTOR, PATIENCE_S
from tests.support.routed import TO_CLIENT, WIRE, Routed, routed, service_address
from tests.support.tracing import Run, tracing
from tracer.records.drop import Drop
from tracer.records.record import Handshake

CLIENT = {4: "10.98.0.2", 6: "fd00:98:0::2"}
PORT = 8443
TCP_SYNCNT = 7
BARE_SYN = "tcp flags & (syn|ack) == syn"
SYN_ACK = "tcp flags & (syn|ack) == syn|ack"
BARE_ACK = "tcp flags & (syn|ack|rst) == ack"


@dataclass
class World:
    """The hosts, a run of tfotrace at each place, and the kernel's own trace."""

    hosts: Routed
    client: Run
    router: Run
    server: Run
    judge: Judge
    opened: ExitStack = field(default_factory=ExitStack)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def places(self) -> dict[Run, NetBox]:
        return {self.client: self.hosts.client, self.router: self.hosts.router, self.server: self.hosts.first}

    def netns(self, run: Run) -> int:
        return os.stat(self.places[run].path).st_ino

    def address(self, version: int = 4) -> str:
        """One that was not used before."""
        return service_address(next(self.numbers), version)

    def rule(self, box: NetBox, hook: str, rule: str) -> None:
        self.opened.enter_context(self.hosts.rule(box, hook, rule))

    def listen(self, address: str) -> socket.socket:
        return self.opened.enter_context(self.hosts.listen(self.hosts.first, address, PORT))

    def connect(self, address: str, source: str = "", stay: bool = False, syns: int = 0) -> None:
        """Begin to, and give up before the SYN is sent again; or `stay` until the test ends, with so many SYNs."""
        version = 6 if ":" in address else 4
        with self.hosts.client.inside():
            client = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET)
        self.opened.callback(client.close)
        client.bind((source or CLIENT[version], 0))
        if syns:
            client.setsockopt(socket.IPPROTO_TCP, TCP_SYNCNT, syns - 1)
        client.setblocking(False)
        with suppress(BlockingIOError, OSError):
            client.connect((address, PORT))
        if not stay:
            time.sleep(0.3)
            client.close()

    def seen(self, run: Run, address: str) -> Handshake:
        if run is self.router:
            return run.wait_handshake(lambda one: one.server.ip == address and one.interface == TO_CLIENT)
        return run.wait_handshake(lambda one: one.server.ip == address)

    def says(
        self, address: str, at: Run, segment: str, reason: str, place: str, cause: str = "host_dropped"
    ) -> list[Handshake]:
        """All places tell this drop of the place where it was, and so does the judge; only that place knows the cause.

        Client, router, server.
        """
        records = [self.seen(run, address) for run in self.places]
        for run, record in zip(self.places, records, strict=True):
            told, own = record.handshake, run is at
            assert told.drop == Drop(segment, reason, place, None if own else self.netns(at))
            if own:
                assert (told.cause, told.cause_confidence, told.cause_at) == (cause, "certain", "this_host")
            else:
                assert is_not_certain(record)
        assert self.agrees(reason, place, records[list(self.places).index(at)], syn_only=segment == "syn")
        return records

    def agrees(self, reason: str, place: str, record: Handshake, syn_only: bool = True) -> bool:
        """Does the judge know that of the time of the record's SYN, or of what came after it?"""
        when = datetime.fromisoformat(f"{record.ts[:26]}+00:00").timestamp() - (time.time() - time.monotonic())
        single = syn_only and record.handshake.syn_count == 1
        return self.judge.knows(reason, place, when - NEAR_S, when + NEAR_S if single else float("inf"))


def is_not_certain(record: Handshake) -> bool:
    """Of another host's drop: only the wire tells here, and less."""
    told = record.handshake
    return told.cause not in ("host_dropped", "no_listener") and told.cause_confidence != "certain"


def named(world: World, run: Run) -> bool:
    address = world.address()
    with ExitStack() as world.opened:
        world.connect(address)
        drop = world.seen(run, address).handshake.drop
        return drop is not None and drop.at is not None


@contextmanager
def worlds() -> Iterator[World]:
    """Three runs that know the names of places."""
    words = "--json", "--response-timeout", "2", "--netns"
    # in emulation they share one CPU
    env = {"TFOTRACE_PATIENCE": str(5 * FACTOR)} if FACTOR > 1 else None
    with routed() as hosts, judge() as trace, \
            tracing(WIRE, *words, hosts.client.name, env=env) as client, \
            tracing(TO_CLIENT, *words, hosts.router.name, env=env) as router, \
            tracing(WIRE, *words, hosts.first.name, env=env) as server:  # fmt: skip
        for run in (client, router, server):
            assert run.start.evidence is not None
            assert run.start.evidence.drop_reasons
        hosts.first.run("sysctl", "-qw", "net.ipv4.tcp_synack_retries=1")
        hosts.client.run("sysctl", "-qew", "net.ipv4.tcp_syn_linear_timeouts=0")  # four SYNs more, since Linux 6.5
        world = World(hosts, client, router, server, trace)
        # until they have read the names of places
        have_names = "names: this kernel may hide its addresses"
        wait_until(lambda: all(named(world, run) for run in world.places), have_names, PATIENCE_S)
        yield world
