"""A client, a router and servers (routed.py), each traced by a run of its own, and what the runs say of a handshake."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count

from tests.support.patience import PATIENCE_S
from tests.support.routed import TO_CLIENT, TO_FIRST, WIRE, Routed, routed, service_address
from tests.support.tracing import INFERRING, Run, tracing
from tracer.records.record import Handshake

Cause = tuple[str | None, str | None]
NONE: Cause = (None, None)
NO_FATE = (None, None, None)


@dataclass
class World:
    """The hosts, and a run of tfotrace at each place."""

    hosts: Routed
    client: Run
    router: Run
    server: Run
    opened: ExitStack = field(default_factory=ExitStack)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def number(self) -> int:
        """The number of a service address not used before."""
        return next(self._numbers)

    def listen(self, queue: int | None = 64, backlog: int = 64, version: int = 4) -> socket.socket:
        """A listener at the first server, at an address not used before."""
        address = service_address(self.number(), version)
        return self.opened.enter_context(self.hosts.listen(self.hosts.first, address, queue=queue, backlog=backlog))

    def seen(self, listener: socket.socket, port: int) -> tuple[Handshake, Handshake, Handshake]:
        """The handshake's records: at the client, at the router's interface to the client, at the server."""
        fits = fitting(listener, port)
        return (
            self.client.wait_handshake(fits),
            self.router.wait_handshake(lambda one: fits(one) and one.interface == TO_CLIENT),
            self.server.wait_handshake(fits),
        )

    def causes(self, listener: socket.socket, port: int) -> tuple[Cause, Cause, Cause]:
        """Cause and confidence at client, router, server."""
        at_client, at_router, at_server = (cause_of(record) for record in self.seen(listener, port))
        return at_client, at_router, at_server

    def come_to(
        self, listener: socket.socket, expected: tuple[Cause, Cause, Cause], no_cookie: bool = False
    ) -> set[Cause]:
        """Repeat a connection until its causes are these; returns what the server's host said before.

        Of a sysctl that has just changed, or a listener that is new, it has to look first: until then it says less, or
        nothing.
        """
        before: set[Cause] = set()
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            seen = self.causes(listener, self.hosts.exchange(listener, no_cookie=no_cookie))
            if seen == expected:
                return before
            assert seen[:2] == expected[:2]
            if seen[2] != NONE:  # the root part had no time to answer
                before.add(seen[2])
        raise AssertionError(before)


def fitting(listener: socket.socket, port: int) -> Callable[[Handshake], bool]:
    """Picks the handshakes of a client's port with a listener; elsewhere the port may be in use again."""
    server = listener.getsockname()[0]
    return lambda one: one.client.port == port and one.server.ip == server


def cause_of(record: Handshake) -> Cause:
    return record.tfo.cause, record.tfo.cause_confidence


def fate_of(record: Handshake) -> tuple[str | None, str | None, str | None]:
    return record.handshake.cause, record.handshake.cause_confidence, record.handshake.cause_at


@contextmanager
def watched() -> Iterator[World]:
    """The hosts, and a run at the client, at both sides of the router, and at the first server."""
    with routed() as hosts, tracing(WIRE, "--json", INFERRING, "--netns", hosts.client.name) as client, \
            tracing(TO_CLIENT, TO_FIRST, "--json", INFERRING, "--netns", hosts.router.name) as router, \
            tracing(WIRE, "--json", INFERRING, "--netns", hosts.first.name) as server:  # fmt: skip
        yield World(hosts, client, router, server)
