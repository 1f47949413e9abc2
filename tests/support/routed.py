"""A client, a router and two servers in their own namespaces: a path to interfere with, on the real kernel.

client (10.98.0.2) -- router -- first (10.98.1.2), second (10.98.2.2). Both servers have the service addresses
10.99.N.1 and fd00:99:0:N::1; by default the router sends each to the first one.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from tests.support.hosts import ANSWER, MSG_FASTOPEN, REQUEST, TCP_FASTOPEN
from tests.support.netbox import Boxes, NetBox
from tests.support.patience import SHORT_S

WIRE, TO_CLIENT, TO_FIRST, TO_SECOND = "wire", "to-client", "to-first", "to-second"
SOURCES = 50  # client addresses 10.98.3.1 and fd00:98:3::1 onwards
TCP_FASTOPEN_NO_COOKIE = 34
_tables = count()
_TEN_SECONDS = struct.pack("@ll", 10, 0)  # struct timeval


def service_address(number: int, version: int = 4) -> str:
    return f"10.99.{number}.1" if version == 4 else f"fd00:99:0:{number}::1"


def source_address(number: int, version: int = 4) -> str:
    return f"10.98.3.{number + 1}" if version == 4 else f"fd00:98:3::{number + 1:x}"


class Routed(Boxes):
    """The four hosts; Fast Open is on everywhere, with a key that each server made itself."""

    def __init__(self) -> None:
        super().__init__(4)

    def _build(self, *boxes: NetBox) -> None:
        self.client, self.router, self.first, self.second = boxes
        for box in self.boxes:
            box.run("sysctl", "-qw", "net.ipv4.tcp_fastopen=3", "net.ipv4.conf.all.rp_filter=0",
                    "net.ipv4.conf.default.rp_filter=0", "net.ipv6.conf.all.disable_ipv6=0",
                    "net.ipv6.conf.default.disable_ipv6=0", "net.ipv6.conf.default.accept_dad=0",
                    "net.ipv6.conf.default.router_solicitations=0", "net.ipv6.conf.default.accept_ra=0",
                    "net.ipv4.tcp_fastopen_blackhole_timeout_sec=0")  # fmt: skip
            box.run("ip", "link", "set", "lo", "up")
        self.router.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        ends = ((self.client, TO_CLIENT, 0), (self.first, TO_FIRST, 1), (self.second, TO_SECOND, 2))
        for box, name, number in ends:
            self.router.run("ip", "link", "add", name, "type", "veth", "peer", "name", WIRE, "netns", box.name)
            for host, link, last in ((self.router, name, 1), (box, WIRE, 2)):
                host.run("ip", "link", "set", link, "up")
                host.run("ip", "address", "add", f"10.98.{number}.{last}/24", "dev", link)
                host.run("ip", "address", "add", f"fd00:98:{number}::{last}/64", "dev", link, "nodad")
            box.run("ip", "route", "add", "default", "via", f"10.98.{number}.1")
            box.run("ip", "-6", "route", "add", "default", "via", f"fd00:98:{number}::1")
        self.router.run("ip", "route", "add", "10.99.0.0/16", "via", "10.98.1.2")
        self.router.run("ip", "-6", "route", "add", "fd00:99::/32", "via", "fd00:98:1::2")
        self.router.run("ip", "route", "add", "10.98.3.0/24", "via", "10.98.0.2")
        self.router.run("ip", "-6", "route", "add", "fd00:98:3::/64", "via", "fd00:98:0::2")
        for server in (self.first, self.second):
            ours = [service_address(number, version) for number in range(1, 40) for version in (4, 6)]
            server.ip_batch(f"address add {one} dev lo" for one in ours)
        sources = [source_address(number, version) for number in range(SOURCES) for version in (4, 6)]
        self.client.ip_batch(f"address add {one} dev lo" for one in sources)

    def send_to(self, server: NetBox, address: str) -> None:
        """Let the router send a service address to one of the servers from now on."""
        gateway = "10.98.1.2" if server is self.first else "10.98.2.2"
        self.router.run("ip", "route", "replace", f"{address}/32", "via", gateway)

    @contextmanager
    def rule(self, box: NetBox, hook: str, rule: str) -> Iterator[None]:
        """An nft rule in its own table at a hook (input, output, forward), and its removal."""
        table = f"test-{hook}-{next(_tables)}"
        box.run("nft", f"table inet {table} {{ chain c {{ type filter hook {hook} priority 0; {rule}; }}; }}")
        try:
            yield
        finally:
            box.run("nft", "delete", "table", "inet", table)

    @contextmanager
    def sysctl(self, box: NetBox, **values: str) -> Iterator[None]:
        """net.ipv4 settings, and the old ones afterwards."""
        old = {name: box.run("sysctl", "-n", f"net.ipv4.{name}").strip() for name in values}
        try:
            for name, value in values.items():
                box.run("sysctl", "-qw", f"net.ipv4.{name}={value}")
            yield
        finally:
            for name, value in old.items():
                box.run("sysctl", "-qw", f"net.ipv4.{name}={value}")

    def listen(
        self, box: NetBox, address: str, port: int = 0, queue: int | None = 64, backlog: int = 64
    ) -> socket.socket:
        """A listener; `queue` None leaves Fast Open off."""
        with box.inside():
            made = socket.socket(_family(address), socket.SOCK_STREAM)
        made.settimeout(SHORT_S)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        if queue is not None:
            made.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, queue)
        made.listen(backlog)
        return made

    def open(
        self,
        listener: socket.socket,
        data: bytes = REQUEST,
        source: str = "",
        no_cookie: bool = False,
        wait: bool = True,
    ) -> socket.socket:
        """A client that opens with MSG_FASTOPEN; without `wait`, which takes a cookie, it has just sent its SYN."""
        client = self._client(listener, source)
        if no_cookie:
            client.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1)
        client.sendto(data, MSG_FASTOPEN | (0 if wait else socket.MSG_DONTWAIT), listener.getsockname()[:2])
        return client

    def connect(self, listener: socket.socket, source: str = "", wait: bool = True) -> socket.socket:
        """A client with an ordinary handshake."""
        client = self._client(listener, source)
        if not wait:
            client.setblocking(False)
        try:
            client.connect(listener.getsockname()[:2])
        except BlockingIOError:
            if wait:
                raise
        return client

    def _client(self, listener: socket.socket, source: str) -> socket.socket:
        address = listener.getsockname()[0]
        with self.client.inside():
            client = socket.socket(_family(address), socket.SOCK_STREAM)
        for limit in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            client.setsockopt(socket.SOL_SOCKET, limit, _TEN_SECONDS)
        client.bind((source or ("fd00:98:0::2" if ":" in address else "10.98.0.2"), 0))
        return client

    def serve(self, listener: socket.socket, client: socket.socket, request: bytes = REQUEST) -> int:
        """Take the request, answer, close; returns the client's port."""
        port: int = client.getsockname()[1]
        with client:
            child, _ = listener.accept()
            with child:
                child.settimeout(SHORT_S)
                assert child.recv(len(request), socket.MSG_WAITALL) == request
                child.sendall(ANSWER)
            assert client.recv(len(ANSWER), socket.MSG_WAITALL) == ANSWER
        return port

    def exchange(self, listener: socket.socket, source: str = "", no_cookie: bool = False) -> int:
        """A whole connection with Fast Open; returns the client's port."""
        return self.serve(listener, self.open(listener, source=source, no_cookie=no_cookie))

    def exchange_plainly(self, listener: socket.socket, source: str = "") -> int:
        """A whole connection without."""
        client = self.connect(listener, source)
        client.sendall(REQUEST)
        return self.serve(listener, client)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@contextmanager
def routed() -> Iterator[Routed]:
    hosts = Routed()
    try:
        yield hosts
    finally:
        hosts.close()
